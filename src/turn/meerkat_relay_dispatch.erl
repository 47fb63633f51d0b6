%% What a frame of the relay program is: requests go to one of the processes of meerkat_request from
%% here, all else is the owner's to hand on. Keeps nothing.
-module(meerkat_relay_dispatch).

-export([frame/3]).

-export_type([route/0]).

%% What is the same for all frames of one relay program.
-type route() :: #{name := atom(),
                   wire := meerkat_wire:wire(),
                   request_code := byte(),
                   granted_code := byte(),
                   %% How many processes of meerkat_request there are.
                   requests := pos_integer()}.

%% `done`: it was passed on, or nobody waits for it any more. Anything else is for the owner, who
%% knows who waits for which reply.
-spec frame(binary(), NowUs :: integer(), route()) ->
    done | {io, map()} | {reply, meerkat_ctl:ref(), meerkat_ctl:message()} | {stop, string()}.
frame(<<Code, _:56, _Flow:64, _Listener:32, _Transport, Family, Rest/binary>> = Frame, Now,
      #{request_code := Code} = Route) ->
    request(client(Family, Rest), Frame, Now, Route);
frame(<<Code, _/binary>> = Frame, _Now, #{granted_code := Code, name := Server}) ->
    ok = meerkat_grants:heard(Server, Frame),
    done;
frame(Frame, _Now, #{name := Server}) ->
    case meerkat_ctl:decode(Frame) of
        {ok, Ref, {Name, _} = Message} ->
            case meerkat_ctl:way(Name) of
                r2e -> message(Ref, Message, Server);
                _ -> stop("the relay program sent ~ts, which is for it to hear", [Name])
            end;
        {error, Reason} ->
            stop("the relay program sent a frame that is not in the protocol: ~ts", [Reason])
    end.

stop(Format, Args) ->
    {stop, lists:flatten(io_lib:format(Format, Args))}.

%% Requests of one client go to one process, so that they stay in order.
request(Client, Frame, Now, #{name := Name, wire := Wire, requests := N}) ->
    case meerkat_roles:find(Name, {request, erlang:phash2(Client, N)}) of
        none -> done;
        Pid -> Pid ! {request, Wire, Frame, Now}, done
    end.

client(4, <<Client:6/binary, _/binary>>) -> Client;
client(6, <<Client:18/binary, _/binary>>) -> Client;
client(_, _) -> <<>>.

message(_Ref, {io, Io}, _Name) -> {io, Io};
message(_Ref, {offload, Offload}, _Name) -> meerkat_relay_report:offload(Offload), done;
message(_Ref, {host, Host}, Name) -> meerkat_addresses:heard(Name, Host), done;
%% The journal was read before this.
message(_Ref, {noted, _}, _Name) -> done;
message(_Ref, {over_rate, Told}, Name) -> meerkat_relay_notice:over_rate(Name, Told), done;
message(_Ref, {closed_port, Told}, Name) -> meerkat_relay_notice:closed_port(Name, Told), done;
%% Of commands that nobody waits for.
message(0, {reply, _}, _Name) -> done;
message(Ref, Message, _Name) -> {reply, Ref, Message}.
