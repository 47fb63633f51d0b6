%% An application with a server of Meerkat's in its supervision tree, and a packet through it.
-module(embed_rebar3).
-behaviour(application).
-behaviour(supervisor).

-export([start/2, stop/1, init/1, relay_a_packet/0]).

start(_Type, _Args) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

stop(_State) -> ok.

init([]) ->
    {ok, {#{}, [meerkat:child_spec(#{name => embedded, listen_ip => "127.0.0.1", listen_port => 0,
                                     relay_ip => "127.0.0.1", secret => "change me"})]}}.

%% Between two clients of the server, each behind its relayed address; what came is printed.
relay_a_packet() ->
    {ok, _} = application:ensure_all_started(embed_rebar3),
    {Alice, AliceAt} = allocated(),
    {Bob, BobAt} = allocated(),
    ok = meerkat_client:permit(Alice, BobAt),
    {ok, _Channel} = meerkat_client:bind_channel(Bob, AliceAt),
    ok = meerkat_client:send(Bob, AliceAt, "through the relay"),
    receive
        {meerkat_client, Alice, {data, BobAt, Payload, _Via}} -> io:format("relayed: ~ts~n", [Payload])
    after 30000 ->
        error(nothing_came)
    end.

allocated() ->
    #{uris := Uris} = Credentials = meerkat:credentials(embedded, <<"alice">>),
    [Uri | _] = [Uri || <<"turn:", _/binary>> = Uri <- Uris],
    {ok, Client} = meerkat_client:start_link((maps:with([username, password], Credentials))#{
                                                 server => Uri}),
    {ok, #{relayed := Relayed}} = meerkat_client:allocate(Client),
    {Client, Relayed}.
