%% HTTP as a meerkat_beside: served at the address of http_listen. A new address is opened before a
%% reload is in force, and the old one is closed afterwards. Each answer is made by the settings
%% that are in force then.
-module(meerkat_http_beside).
-behaviour(meerkat_beside).

-export([child_specs/2, try_out/2, prepare/3, commit/1, rollback/1, info/1, metrics/0]).

-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(Name, Settings) ->
    meerkat_http_sup:child_specs(Name, Settings).

-spec try_out(meerkat_settings:settings(), meerkat_settings:settings()) ->
    ok | {error, unicode:chardata()}.
try_out(#{http := #{listen := To}}, #{http := #{listen := From}}) ->
    meerkat_http_sup:can_open(To, From).

-spec prepare(Name :: atom(), meerkat_settings:settings(), meerkat_settings:settings()) ->
    {ok, meerkat_http_sup:opening()} | {error, unicode:chardata()}.
prepare(Name, #{http := #{listen := To}}, #{http := #{listen := From}}) ->
    case meerkat_http_sup:open(Name, To, From) of
        {ok, Opening} -> {ok, Opening};
        {error, Sentence} -> {error, [Sentence, "; nothing has changed"]}
    end.

-spec commit(meerkat_http_sup:opening()) -> ok.
commit(Opening) ->
    meerkat_http_sup:close(Opening).

-spec rollback(meerkat_http_sup:opening()) -> ok.
rollback(Opening) ->
    meerkat_http_sup:undo(Opening).

-spec info(Name :: atom()) -> #{http := {inet:ip_address(), inet:port_number()} | undefined}.
info(Name) ->
    #{http => case meerkat_http:address(Name) of none -> undefined; Address -> Address end}.

-spec metrics() -> [meerkat_beside:row()].
metrics() ->
    [].
