%% What the relay keeps for another VM, in case this one ends and the relay does not: for how many
%% seconds it goes on, and the numbers and keys that its allocations were made with (KEEP of
%% ctl.def).
-module(meerkat_keep).

-export([path/2, wanted/2, is_wanted/1, message/1, renewed/1, read/2]).

-export_type([kept/0]).

%% What another VM left: the settings of this one, made to go on with that relay; the addresses that
%% it relayed from, and where listeners are.
-type kept() :: #{settings := meerkat_settings:settings(),
                  relays := [meerkat_settings:relay()],
                  bound := meerkat_listening:bound()}.

-define(FORMAT, 1).
%% sun_path of Linux has 108 bytes, the last of them zero; there is a lock file beside the socket.
-define(PATH_MAX, 107).

%% The socket by which another VM finds the relay; `none` where it is to end with its VM.
-spec path(Name :: atom(), meerkat_settings:settings()) ->
    file:filename() | none | {error, unicode:chardata()}.
path(_Name, #{run_dir := none}) ->
    none;
path(Name, #{run_dir := Dir, survive := Seconds}) ->
    File = ["relay-", uri_string:quote(atom_to_binary(Name)), ".sock"],
    Path = unicode:characters_to_list(filename:absname(filename:join(Dir, iolist_to_binary(File)))),
    %% A relay of another VM may be there even where this configuration has none survive.
    case Seconds > 0 orelse is_there(Path) of
        true -> usable(Path, Dir);
        false -> none
    end.

is_there(Path) ->
    case file:read_link_info(Path) of
        {ok, _} -> true;
        {error, _} -> false
    end.

usable(Path, Dir) ->
    case {byte_size(unicode:characters_to_binary(Path)) =< ?PATH_MAX, meerkat_private:make(Dir)} of
        {true, ok} -> Path;
        {false, _} -> {error, [Path, " is too long for the name of a socket"]};
        {true, {error, Sentence}} -> {error, Sentence}
    end.

%% Whether the relay there is now keeps anything.
-spec wanted(Name :: atom(), boolean()) -> ok.
wanted(Name, Is) ->
    meerkat_store:put(Name, ?MODULE, wanted, Is).

-spec is_wanted(Name :: atom()) -> boolean().
is_wanted(Name) ->
    meerkat_store:get(Name, ?MODULE, wanted, false).

-spec message(meerkat_settings:settings()) -> meerkat_ctl:message().
message(#{survive := Seconds} = Settings) ->
    {keep, #{survive_s => Seconds,
             note => term_to_binary({?FORMAT, meerkat_settings:kept(Settings)})}}.

%% The settings are others from here on: their numbers are told before anything is made by them. A
%% relay that cannot be told now is told as soon as it can.
-spec renewed(Name :: atom()) -> ok.
renewed(Name) ->
    case is_wanted(Name) of
        true -> told(Name, message(meerkat_registry:settings(Name)));
        false -> ok
    end.

told(Name, Message) ->
    case meerkat_relay:call(Name, Message) of
        {error, busy} -> meerkat_relay:tell(Name, Message);
        _ -> ok
    end.

%% KEPT, for who was to start with these settings. The error says why the relay cannot be gone on
%% with.
-spec read(Kept :: map(), meerkat_settings:settings()) -> {ok, kept()} | {error, string()}.
read(#{note := Note, listeners := Listeners}, Settings) ->
    Bound = bound(Listeners),
    try binary_to_term(Note, [safe]) of
        {?FORMAT, #{relays := Relays} = Kept} ->
            case meerkat_settings:adopted(with_places(Kept, Bound), Settings) of
                {ok, New} -> {ok, #{settings => New, relays => Relays, bound => Bound}};
                {error, Sentence} -> {error, Sentence}
            end;
        _ ->
            {error, "another release gave it to keep what this one does not understand"}
    catch
        error:badarg ->
            {error, "another release gave it to keep what this one does not understand"}
    end.

bound(<<Id:32, 4, Port:16, A, B, C, D, More/binary>>) ->
    (bound(More))#{Id => {{A, B, C, D}, Port}};
bound(<<Id:32, 6, Port:16, Ip:16/binary, More/binary>>) ->
    (bound(More))#{Id => {list_to_tuple([N || <<N:16>> <= Ip]), Port}};
bound(<<>>) ->
    #{}.

%% A port that the system chose is the same by its number too.
with_places(Kept, Bound) ->
    maps:map(fun(Key, Listeners) when Key =:= listeners; Key =:= retired_listeners ->
                     [maps:merge(L, maps:from_list([{at, maps:get(Id, Bound)}
                                                    || is_map_key(Id, Bound)]))
                      || #{id := Id} = L <- Listeners];
                (_Key, Value) -> Value
             end, Kept).
