%% Erlang/OTP's side of two goals: how long its supervisor takes from the crash of a child until
%% the replacement runs, for one child and for storms. Every child says that it runs; only then is
%% it counted. Prints one line of JSON.
%%
%% The supervisor is OTP's own, one_for_one, permanent children, with limits that are never hit.
-module(otp_bench).
-behaviour(supervisor).
-export([main/1, init/1, start_child/1]).

%% Arguments: the mode (crash or storm), then its two numbers.
%%   crash CYCLES ROUNDS: microseconds per cycle of each round, one child crashing in turn;
%%   storm CHILDREN ROUNDS: microseconds of each round, all children killed at once.
main([Mode, First, Second]) ->
    %% Crash reports are switched off: what is compared is recovery, not logging.
    ok = logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    process_flag(priority, high),
    N = list_to_integer(First),
    Rounds = lists:seq(1, list_to_integer(Second)),
    Figures = case Mode of
        "crash" -> [crash_round(N) || _ <- Rounds];
        "storm" -> [storm_round(N) || _ <- Rounds]
    end,
    io:format("{\"otp\": \"~s\", \"microseconds\": [~s]}~n",
              [erlang:system_info(otp_release),
               lists:join(", ", [io_lib:format("~.3f", [F]) || F <- Figures])]),
    halt(0).

%% The supervisor remembers each restart within its period and walks through them at every crash,
%% so a round starts with a fresh supervisor and the caller keeps CYCLES small.
crash_round(Cycles) ->
    Sup = start_supervisor(1),
    [Pid] = await_running(1),
    {Micros, _} = timer:tc(fun() -> crash_cycles(Pid, Cycles) end),
    stop_supervisor(Sup),
    Micros / Cycles.

crash_cycles(_Pid, 0) ->
    ok;
crash_cycles(Pid, Left) ->
    Pid ! crash,
    receive {running, Next} -> crash_cycles(Next, Left - 1) end.

storm_round(Children) ->
    Sup = start_supervisor(Children),
    Pids = await_running(Children),
    {Micros, _} = timer:tc(fun() ->
        lists:foreach(fun(Pid) -> exit(Pid, kill) end, Pids),
        await_running(Children)
    end),
    stop_supervisor(Sup),
    Micros * 1.0.

await_running(N) ->
    [receive {running, Pid} -> Pid end || _ <- lists:seq(1, N)].

start_supervisor(Children) ->
    {ok, Sup} = supervisor:start_link(?MODULE, {Children, self()}),
    Sup.

stop_supervisor(Sup) ->
    exit(Sup, shutdown),
    receive {'EXIT', Sup, _} -> ok end.

init({Children, Owner}) ->
    Specs = [#{id => N, start => {?MODULE, start_child, [Owner]},
               restart => permanent, shutdown => brutal_kill}
             || N <- lists:seq(1, Children)],
    {ok, {#{strategy => one_for_one, intensity => 1000000000, period => 1}, Specs}}.

start_child(Owner) ->
    {ok, spawn_link(fun() ->
        Owner ! {running, self()},
        receive crash -> exit(crashed) end
    end)}.
