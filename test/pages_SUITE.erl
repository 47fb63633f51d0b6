%% The pages that a server serves by HTTP, looked at in Chromium: test/interop/browser/pages.mjs
%% does what a person would, and judges what is there.
-module(pages_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([status_page/1, status_page_of_an_idle_server/1, status_page_of_many_listeners/1,
         call_page/1, ice_page/1]).

-import(turn_kit, [doc/1, allocated/1, bind/3, channel/3, delete/1, peer/0, with_server/2]).

-define(TOKEN, <<"let me in, please">>).
-define(CHANNEL, 16#4000).
-define(HERE, {127, 0, 0, 1}).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [status_page, status_page_of_an_idle_server, status_page_of_many_listeners, call_page,
     ice_page].

init_per_suite(Config) ->
    {0, _} = interop_SUITE:npm_ci(),
    Config.

end_per_suite(_Config) -> ok.

http() -> http(#{}).

http(More) -> maps:merge(#{http_listen => {?HERE, 0}, http_token => ?TOKEN}, More).

status_page(Config) ->
    doc("a browser shows the allocation that is there, its traffic and its drops"),
    with_server(http(), fun(Server) ->
        Client = allocated(Server),
        Peer = peer(),
        _ = turn_kit:success(bind(Client, ?CHANNEL, Peer)),
        Talker = spawn_link(fun() -> talk(Client, Peer) end),
        browse(Config, ["status", http_kit:url(Server)]),
        true = unlink(Talker),
        true = exit(Talker, kill),
        ok = delete(Client)
    end).

status_page_of_an_idle_server(Config) ->
    doc("nothing sticks out, and the scales say something, where there is nothing to show"),
    with_server(http(), fun(Server) ->
        browse(Config, ["idle", http_kit:url(Server), "2"])
    end).

status_page_of_many_listeners(Config) ->
    doc("twenty listeners of two families, over UDP and TCP, are all told inside their card"),
    Listen = [#{transport => Transport, ip => Ip, port => 0}
              || _ <- lists:seq(1, 5), Transport <- [udp, tcp],
                 Ip <- [?HERE, {0, 0, 0, 0, 0, 0, 0, 1}]],
    with_server(http(#{listeners => Listen}), fun(Server) ->
        browse(Config, ["idle", http_kit:url(Server), "20"])
    end).

%% Sends until it is stopped, more and more, and now and then what must be dropped.
talk(Client, Peer) -> talk(Client, Peer, 100).

talk(Client, Peer, Size) ->
    ok = channel(Client, ?CHANNEL, binary:copy(<<"x">>, Size)),
    ok = channel(Client, ?CHANNEL + 1, <<"nowhere">>),
    receive after 20 -> talk(Client, Peer, min(1200, Size + 1)) end.

call_page(Config) ->
    doc("a browser shows how media of one allocation comes, for whoever has the token"),
    with_server(http(), fun(Server) ->
        Client = allocated(Server),
        _ = turn_kit:success(bind(Client, ?CHANNEL, peer())),
        Talker = spawn_link(fun() -> speak(Client, 1) end),
        browse(Config, ["call", http_kit:url(Server), binary_to_list(?TOKEN)]),
        true = unlink(Talker),
        true = exit(Talker, kill),
        ok = delete(Client)
    end).

%% Media of which every tenth packet is lost, until it is stopped.
speak(Client, N) ->
    _ = N rem 10 =:= 0 orelse
        channel(Client, ?CHANNEL, <<2:2, 0:6, 0:8, N:16, (N * 160):32, 16#a11ce:32, 0:1280>>),
    receive after 5 -> speak(Client, N + 1) end.

ice_page(Config) ->
    doc("a browser gets credentials and a relayed candidate, and says so; a wrong password too"),
    with_server(http(), fun(Server) ->
        browse(Config, ["ice", http_kit:url(Server), binary_to_list(?TOKEN)])
    end).

browse(Config, [Page | _] = Args) ->
    Name = lists:join("-", [Page | [Word || [C | _] = Word <- Args, C >= $0, C =< $9]]),
    Screenshot = filename:join(proplists:get_value(priv_dir, Config),
                               unicode:characters_to_list([Name, ".png"])),
    {Status, Output} = interop_SUITE:browser("pages.mjs", Args ++ [Screenshot]),
    ct:log("<a href=\"file://~ts\">~ts</a>", [Screenshot, Screenshot]),
    ?assertEqual({0, match}, {Status, re:run(Output, Page ++ " page: ok", [{capture, none}])}).
