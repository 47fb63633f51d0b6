%% Answers to the challenges of an ACME authority (RFC 8555 8.3): files that a client such as
%% certbot writes to a directory that both know (the key acme_webroot). No other file is ever read:
%% a name that is asked for may have letters, digits, _ and - only, and must be that of a regular
%% file.
-module(meerkat_http_acme).

-include_lib("kernel/include/file.hrl").

-export([challenge/1, answer/2]).

%% As certbot's --webroot has it.
-define(BELOW, ".well-known/acme-challenge").
-define(PATH, "/" ?BELOW "/").
%% A key authorization is a token and 43 letters more.
-define(BYTES_MAX, 1024).

%% The token that a path asks for.
-spec challenge(Path :: binary()) -> {ok, Token :: binary()} | none.
challenge(<<?PATH, Token/binary>>) ->
    case re:run(Token, "^[A-Za-z0-9_-]{1,128}$", [dollar_endonly]) of
        {match, _} -> {ok, Token};
        nomatch -> none
    end;
challenge(_) ->
    none.

-spec answer(Webroot :: undefined | binary(), Token :: binary()) -> {ok, binary()} | none.
answer(undefined, _Token) ->
    none;
answer(Webroot, Token) ->
    File = filename:join([Webroot, ?BELOW, Token]),
    %% No symbolic link is followed: it could lead to any file of this machine.
    case file:read_link_info(File) of
        {ok, #file_info{type = regular, size = Size}} when Size =< ?BYTES_MAX -> content(File);
        _ -> none
    end.

content(File) ->
    case file:read_file(File) of
        {ok, Content} -> {ok, Content};
        {error, _} -> none
    end.
