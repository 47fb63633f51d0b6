%% What the system hands to a program, in any locale: the environment, arguments, names of files.
%% Erlang reads these bytes by the locale, and in that of POSIX takes each byte for a character;
%% here UTF-8 is what they are. It knows no variable of ours.
-module(meerkat_env).

-export([all/0, get/1, state_file/1, bytes/1, argument/1, speak_utf8/0, is_service_link/2]).

%% The environment of this process, as bytes.
-spec all() -> [{Name :: binary(), Value :: binary()}].
all() ->
    [{bytes(Name), bytes(Value)} || {Name, Value} <- os:env()].

%% A variable that is set to something; what orchestrators put there is not meant for it.
-spec get(Name :: string()) -> {ok, binary()} | none.
get(Name) ->
    case os:getenv(Name, "") of
        "" ->
            none;
        Text ->
            Value = bytes(Text),
            case is_service_link(list_to_binary(Name), Value) of
                true -> none;
                false -> {ok, Value}
            end
    end.

%% Where a file of this name is kept that is to last: in what systemd made for us (StateDirectory=),
%% or where programs of a user keep such.
-spec state_file(Name :: binary()) -> binary() | none.
state_file(Name) ->
    case [filename:join([hd(binary:split(Root, <<":">>)) | Below])
          || {Variable, Below} <- [{"STATE_DIRECTORY", []}, {"XDG_STATE_HOME", [<<"meerkat">>]},
                                   {"HOME", [<<".local/state/meerkat">>]}],
             {ok, <<"/", _/binary>> = Root} <- [?MODULE:get(Variable)]] of
        [Dir | _] -> filename:join(Dir, Name);
        [] -> none
    end.

%% Undoes what Erlang did to bytes of the system.
-spec bytes(string()) -> binary().
bytes(Text) ->
    case unicode:characters_to_binary(Text, unicode, file:native_name_encoding()) of
        Bytes when is_binary(Bytes) -> Bytes;
        _ -> unicode:characters_to_binary(Text)
    end.

%% An argument of the command line as whoever typed it sees it. Bytes that are no UTF-8 stay one
%% character each.
-spec argument(string()) -> string().
argument(Text) ->
    case unicode:characters_to_list(bytes(Text)) of
        Typed when is_list(Typed) -> Typed;
        _ -> Text
    end.

%% What this node prints is UTF-8 too, and so is what it reads.
-spec speak_utf8() -> ok.
speak_utf8() ->
    _ = [io:setopts(Device, [{encoding, unicode}]) || Device <- [standard_io, standard_error]],
    ok.

%% Kubernetes gives every pod TURN_PORT=udp://10.0.0.1:3478 where there is a Service of the name
%% turn, and so for any other name; Docker did for links.
-spec is_service_link(Name :: binary(), Value :: binary()) -> boolean().
is_service_link(Name, Value) ->
    re:run(Name, "_PORT$", [dollar_endonly]) =/= nomatch
        andalso re:run(Value, "^(tcp|udp|sctp)://\\S+:[0-9]+$", [dollar_endonly]) =/= nomatch.
