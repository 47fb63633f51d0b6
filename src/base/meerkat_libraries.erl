%% Erlang libraries that are only needed for some keys of the configuration, and may be missing: a
%% Debian package each. They load code in C, so one that can be found may still not work: each is
%% tried.
-module(meerkat_libraries).

-export([missing_for_xmpp/0]).

%% The Debian packages of the libraries for XMPP that are not there, or do not work.
-spec missing_for_xmpp() -> [string()].
missing_for_xmpp() ->
    [Package || {Package, App, Use} <- [{"erlang-p1-xml", fast_xml, fun try_xml/0},
                                        {"erlang-p1-stringprep", stringprep, fun try_stringprep/0}],
                not works(App, Use)].

%% No boot file starts them.
works(App, Use) ->
    try
        _ = application:ensure_all_started(App),
        Use()
    catch
        error:_ -> false
    end.

try_xml() ->
    Stream = fxml_stream:new(self()),
    _ = fxml_stream:close(Stream),
    is_binary(fxml:element_to_binary({xmlel, <<"a">>, [], []})).

try_stringprep() ->
    is_binary(stringprep:nodeprep(<<"a">>)).
