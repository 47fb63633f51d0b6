%% The beginning and the end of a pcapng file (draft-ietf-opsawg-pcapng), whose packets the relay
%% writes. Big endian, as the first block says and the relay writes as well.
-module(meerkat_pcapng).

-export([create/3, is_whole/1]).

-define(SECTION, 16#0A0D0D0A).
-define(INTERFACE, 1).
-define(STATISTICS, 5).
%% The block of statistics, with one count; the relay ends a file with it.
-define(STATISTICS_SIZE, 40).
-define(MAGIC, 16#1A2B3C4D).
%% Packets begin with their IP header.
-define(LINKTYPE_RAW, 101).
-define(OPTION_COMMENT, 1).
-define(OPTION_NAME, 2).
-define(OPTION_DESCRIPTION, 3).
-define(OPTION_APPLICATION, 4).
-define(OPTION_RESOLUTION, 9).
%% Times are nanoseconds.
-define(NANOSECONDS, 9).

%% Makes a file that is not there yet, for nobody but us to read, with all that stands before the
%% packets: of which allocation it is, and the client's side and the peers' as interfaces. How many
%% bytes that is.
-spec create(File :: file:filename_all(), Allocation :: map(), Payload :: boolean()) ->
    {ok, pos_integer()} | {error, file:posix()}.
create(File, Allocation, Payload) ->
    case file:open(File, [write, exclusive, raw, binary]) of
        {ok, Device} ->
            Blocks = iolist_to_binary(beginning(Allocation, Payload)),
            Written = written(File, Device, Blocks),
            ok = file:close(Device),
            case Written of
                ok -> {ok, byte_size(Blocks)};
                {error, Reason} -> _ = file:delete(File), {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

written(File, Device, Blocks) ->
    case file:change_mode(File, 8#600) of
        ok -> file:write(Device, Blocks);
        {error, Reason} -> {error, Reason}
    end.

%% Does it end as the relay ends it? Only the last block is read, which is no packet.
-spec is_whole(File :: file:filename_all()) -> boolean().
is_whole(File) ->
    case file:open(File, [read, raw, binary]) of
        {ok, Device} ->
            {ok, Size} = file:position(Device, eof),
            End = file:pread(Device, max(0, Size - ?STATISTICS_SIZE), ?STATISTICS_SIZE),
            ok = file:close(Device),
            case End of
                {ok, <<?STATISTICS:32, ?STATISTICS_SIZE:32, _:28/binary,
                       ?STATISTICS_SIZE:32>>} -> true;
                _ -> false
            end;
        {error, _} ->
            false
    end.

%%% Blocks

beginning(Allocation, Payload) ->
    {ok, Version} = application:get_key(meerkat, vsn),
    Kept = case Payload of true -> "whole packets"; false -> "headers only" end,
    [block(?SECTION, [<<?MAGIC:32, 1:16, 0:16, -1:64>>,
                      option(?OPTION_COMMENT, [of_whom(Allocation), "; ", Kept]),
                      option(?OPTION_APPLICATION, ["Meerkat ", Version])]),
     interface("client", "between the client and the server"),
     interface("peers", "between the relayed address and peers")].

of_whom(#{session := Session} = Allocation) ->
    ["allocation ", meerkat_text:session(Session),
     [[" of user ", meerkat_text:escape(User)] || #{user := User} <- [Allocation]]].

interface(Name, Description) ->
    block(?INTERFACE, [<<?LINKTYPE_RAW:16, 0:16, 0:32>>,
                       option(?OPTION_NAME, Name),
                       option(?OPTION_DESCRIPTION, Description),
                       option(?OPTION_RESOLUTION, [?NANOSECONDS])]).

%% Its options end with one of no length.
block(Type, Body) ->
    Bytes = iolist_to_binary([Body, <<0:32>>]),
    Size = byte_size(Bytes) + 12,
    [<<Type:32, Size:32>>, Bytes, <<Size:32>>].

option(Code, Text) ->
    Bytes = unicode:characters_to_binary(Text),
    Padding = -byte_size(Bytes) band 3,
    [<<Code:16, (byte_size(Bytes)):16>>, Bytes, <<0:Padding/unit:8>>].
