"""Names of spans and attributes.

The first block follows OpenTelemetry's semantic conventions for generative AI agents, which are in
development and whose Python constants are marked deprecated: hence our own. The second is ours,
under the names that the log lines use.
"""

from __future__ import annotations

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
AGENT_ID = "gen_ai.agent.id"
AGENT_NAME = "gen_ai.agent.name"
TOOL_NAME = "gen_ai.tool.name"
INVOKE_AGENT = "invoke_agent"
EXECUTE_TOOL = "execute_tool"
ERROR_TYPE = "error.type"

TASK_TYPE = "fleetmon.task_type"
TASK_ID = "fleetmon.task_id"
GENERATION = "fleetmon.generation"
ATTEMPT = "fleetmon.attempt"
OUTCOME = "fleetmon.outcome"
