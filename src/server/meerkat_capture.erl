%% A capture: what an allocation relays, on both sides, and its requests and answers, as a pcapng
%% file. The file is made and begun here (meerkat_pcapng); the relay writes packets into it, and
%% none of them comes here (docs/design/seeing.md). A process of its own sees that it goes on and
%% that it ends: after the time that was asked for, when the file has the size that was, with its
%% allocation, or when nobody asks how it is any more.
-module(meerkat_capture).
-behaviour(gen_server).

-export([start/3, state/2, stop/2, told/1, words/1]).
-export([start_link/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0, id/0, state/0, refusal/0]).

%% file: the path of one that is not there yet. seconds: for how long, an hour at most; a minute
%% without. max_bytes: of the file, 64 MiB without. payload: all of each packet; else headers only.
%% passing: the file is removed with the capture, for whoever has it open already.
-type options() :: #{file := file:filename_all(), seconds => pos_integer(),
                     max_bytes => pos_integer(), payload => boolean(), passing => boolean()}.
-type id() :: binary().
%% missed: packets that were relayed and are not in the file, which was written too slowly. reason:
%% why it is over; `whole`: all that was captured is in the file.
-type state() :: #{state := going | over, packets := non_neg_integer(),
                   missed := non_neg_integer(), bytes := non_neg_integer(),
                   reason => time | stopped | allocation | size | relay | {file, file:posix()},
                   whole => boolean()}.
-type refusal() :: not_found | too_many | seconds | max_bytes | relays_tcp
                 | {file, file:posix() | relative | too_long} | {relay, term()}.

-define(CAPTURES_MAX, 4).
-define(SECONDS, 60).
-define(SECONDS_MAX, 3600).
-define(BYTES, 67108864).
-define(BYTES_LEAST, 4096).
-define(BYTES_MOST, 4294967296).
-define(PATH_MAX, 1023).
-define(EVERY_MS, 1000).
%% So long nobody may ask, and the relay goes on without being asked.
-define(PATIENCE_MS, 15000).
-define(LIFETIME_MS, 15000).
%% For the rest to be written when it is over, and between two looks whether it is.
-define(REST_MS, 5000).
-define(LOOK_MS, 20).
-define(ANSWER_MS, 30000).

-record(state, {name :: atom(),
                id :: id(),
                session :: non_neg_integer(),
                options :: #{file := binary(), _ => _},
                ends :: integer(),
                asked :: integer(),
                is_begun = false :: boolean(),
                counts = #{packets => 0, missed => 0, bytes => 0} :: map(),
                %% Why it is over, and until when the rest may take.
                over = none :: none | {term(), Until :: integer()},
                result = none :: none | state(),
                waiting = [] :: [gen_server:from()]}).

%% Begins a capture of the allocation.
-spec start(Name :: atom(), meerkat_sessions:id(), options()) -> {ok, id()} | {error, refusal()}.
start(Name, Allocation, Options) ->
    case wrong(Options) of
        [] ->
            case meerkat_sessions:details(Name, Allocation) of
                {ok, Details} -> start_of(Name, Details, Options);
                {error, not_found} -> {error, not_found}
            end;
        [Wrong | _] ->
            {error, Wrong}
    end.

wrong(#{file := File} = Options) ->
    Seconds = maps:get(seconds, Options, ?SECONDS),
    Bytes = maps:get(max_bytes, Options, ?BYTES),
    [seconds || not (is_integer(Seconds) andalso Seconds >= 1 andalso Seconds =< ?SECONDS_MAX)]
        ++ [max_bytes || not (is_integer(Bytes) andalso Bytes >= ?BYTES_LEAST
                              andalso Bytes =< ?BYTES_MOST)]
        ++ [{file, relative} || filename:pathtype(File) =/= absolute]
        ++ [{file, too_long} || byte_size(path(File)) > ?PATH_MAX].

path(File) when is_binary(File) -> File;
path(File) -> unicode:characters_to_binary(File, unicode, file:native_name_encoding()).

start_of(Name, Details, #{file := File} = Options) ->
    Id = binary:encode_hex(crypto:strong_rand_bytes(8)),
    Args = [Id, {Details, Options#{file := path(File)}}],
    case meerkat_watch_sup:start_one(Name, ?MODULE, Args) of
        {ok, Pid} -> gen_server:call(Pid, 'begin', ?ANSWER_MS);
        none -> {error, too_many}
    end.

%% How it is: after up to a second, at once where it is over. Whoever has heard that is told no
%% more.
-spec state(Name :: atom(), id()) -> {ok, state()} | {error, not_found}.
state(Name, Id) -> ask(Name, Id, state).

%% Ends it before its time; how it was in the end.
-spec stop(Name :: atom(), id()) -> {ok, state()} | {error, not_found}.
stop(Name, Id) -> ask(Name, Id, stop).

ask(Name, Id, Question) ->
    case meerkat_store:get(Name, ?MODULE, {capture, Id}) of
        none -> {error, not_found};
        Pid ->
            try gen_server:call(Pid, Question, ?ANSWER_MS) catch exit:_ -> {error, not_found} end
    end.

%% What the log is told of it.
-spec told(options() | map()) -> #{seconds := term(), payload := term()}.
told(Options) ->
    maps:merge(#{seconds => ?SECONDS, payload => false}, maps:with([seconds, payload], Options)).

%% Why it was refused, for people; not_found is said by whoever was asked.
-spec words(refusal()) -> binary().
words(too_many) -> <<"so many captures as there may be go on already, or this one does">>;
words(seconds) -> <<"a capture lasts from 1 to 3600 seconds">>;
words(max_bytes) -> <<"a capture has from 4096 bytes to 4 GiB">>;
words(relays_tcp) -> <<"it relays TCP (RFC 6062), which is not captured">>;
words({file, relative}) -> <<"the file needs its whole path">>;
words({file, too_long}) -> <<"the path of the file is too long">>;
words({file, Posix}) ->
    iolist_to_binary(["the server cannot make the file: ", file:format_error(Posix)]);
words({relay, Reason}) ->
    iolist_to_binary(io_lib:format("the relay program does not answer: ~tp", [Reason])).

%%% gen_server

-spec start_link(Name :: atom(), id(), {map(), options()}) -> {ok, pid()} | ignore | {error, _}.
start_link(Name, Id, What) ->
    gen_server:start_link(?MODULE, {Name, Id, What}, []).

%% One after the other, for the supervisor waits: so their number is right.
-spec init({atom(), id(), {map(), map()}}) -> {ok, #state{}} | ignore.
init({Name, Id, {#{session := Session} = Details, Options}}) ->
    case length(meerkat_store:all(Name, ?MODULE)) < ?CAPTURES_MAX of
        true ->
            process_flag(trap_exit, true),
            ok = meerkat_store:put(Name, ?MODULE, {capture, Id}, self()),
            Now = meerkat_clock:now_ms(),
            {ok, #state{name = Name, id = Id, session = Session, asked = Now,
                        options = Options#{details => Details},
                        ends = Now + maps:get(seconds, Options, ?SECONDS) * 1000}};
        false ->
            ignore
    end.

-spec handle_call('begin' | state | stop, gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}} | {stop, normal, term(), #state{}}.
handle_call('begin', _From, #state{id = Id, options = Options} = State) ->
    #{file := File, details := Details} = Options,
    case meerkat_pcapng:create(File, Details, maps:get(payload, Options, false)) of
        {ok, Bytes} ->
            case captured(?LIFETIME_MS, Bytes, File, State) of
                {ok, Counts} ->
                    _ = erlang:send_after(?EVERY_MS, self(), look),
                    {reply, {ok, Id}, State#state{is_begun = true, counts = Counts}};
                {error, Reason} ->
                    _ = file:delete(File),
                    {stop, normal, {error, refused(Reason)}, State}
            end;
        {error, Reason} ->
            {stop, normal, {error, {file, Reason}}, State}
    end;
handle_call(state, From, #state{result = none, waiting = Waiting} = State) ->
    {noreply, State#state{waiting = [From | Waiting], asked = meerkat_clock:now_ms()}};
handle_call(stop, From, #state{over = none, result = none, waiting = Waiting} = State) ->
    {noreply, ended(stopped, State#state{waiting = [From | Waiting]})};
handle_call(stop, From, #state{result = none, waiting = Waiting} = State) ->
    {noreply, State#state{waiting = [From | Waiting]}};
handle_call(_, _From, #state{result = Result} = State) ->
    {stop, normal, {ok, Result}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info(look, State) ->
    looked(State);
handle_info(rest, #state{over = {Reason, Until}, counts = Counts, options = Options} = State) ->
    IsWhole = meerkat_pcapng:is_whole(maps:get(file, Options)),
    case IsWhole orelse meerkat_clock:now_ms() >= Until of
        true -> replied(State#state{result = Counts#{state => over, reason => Reason,
                                                  whole => IsWhole}});
        false ->
            _ = erlang:send_after(?LOOK_MS, self(), rest),
            {noreply, State}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{name = Name, id = Id, options = Options} = State) ->
    ok = meerkat_store:delete(Name, ?MODULE, {capture, Id}),
    _ = [file:delete(File) || #{passing := true, file := File} <- [Options],
                              State#state.is_begun],
    _ = [captured(0, 0, <<>>, State) || State#state.is_begun, State#state.over =:= none],
    ok.

%% Whoever waits is told; the end of it is there for a while for who asks later.
looked(#state{result = #{}} = State) ->
    patience(State);
looked(#state{over = {_, _}} = State) ->
    {noreply, State};
looked(State) ->
    Now = meerkat_clock:now_ms(),
    case captured(lifetime(Now, State), 0, <<>>, State) of
        {ok, #{error := Errno} = Counts} when Errno =/= 0 ->
            {noreply, ended({file, posix(Errno)}, State#state{counts = Counts})};
        {ok, #{full := 1} = Counts} ->
            {noreply, ended(size, State#state{counts = Counts})};
        {ok, Counts} when Now >= State#state.ends ->
            {noreply, rest(time, State#state{counts = Counts})};
        {ok, Counts} ->
            replied(State#state{counts = Counts});
        {error, gone} ->
            {noreply, rest(allocation, State)};
        {error, _} ->
            {noreply, rest(relay, State)}
    end.

%% The last time it is asked with 0, which ends it.
lifetime(Now, #state{ends = Ends}) when Now >= Ends -> 0;
lifetime(_Now, _State) -> ?LIFETIME_MS.

%% The relay is told that it is over.
ended(Reason, #state{counts = Before} = State) ->
    Counts = case captured(0, 0, <<>>, State) of
        {ok, Last} -> Last;
        {error, _} -> Before
    end,
    rest(Reason, State#state{counts = Counts}).

rest(Reason, State) ->
    self() ! rest,
    State#state{over = {Reason, meerkat_clock:now_ms() + ?REST_MS}}.

replied(#state{waiting = Waiting, counts = Counts, result = Result} = State) ->
    Now = case Result of none -> Counts#{state => going}; #{} -> Result end,
    lists:foreach(fun(From) ->
        gen_server:reply(From, {ok, maps:without([full, error], Now)})
    end, Waiting),
    case Result of
        #{} when Waiting =/= [] -> {stop, normal, State};
        _ -> patience(State#state{waiting = [], result = plain(Result)})
    end.

plain(none) -> none;
plain(Result) -> maps:without([full, error], Result).

patience(#state{asked = Asked} = State) ->
    case meerkat_clock:now_ms() - Asked > ?PATIENCE_MS of
        true ->
            {stop, normal, State};
        false ->
            _ = erlang:send_after(?EVERY_MS, self(), look),
            {noreply, State}
    end.

%%% The relay

captured(LifetimeMs, Bytes, Path, #state{name = Name, session = Session, options = Options}) ->
    Payload = case Options of #{payload := true} -> 1; #{} -> 0 end,
    Command = {capture, #{session => Session, lifetime_ms => LifetimeMs, payload => Payload,
                          bytes => Bytes, bytes_max => maps:get(max_bytes, Options, ?BYTES),
                          path => Path}},
    case meerkat_relay:call(Name, Command) of
        {ok, #{packets := _} = Fields} ->
            {ok, maps:with([packets, missed, bytes, full, error], Fields)};
        {ok, #{status := Status}} -> {error, Status};
        {error, Failure} -> {error, Failure}
    end.

refused(gone) -> not_found;
refused(full) -> too_many;
refused(refused) -> relays_tcp;
refused(Reason) -> {relay, Reason}.

%% Of Linux, as far as writing fails with them.
posix(2) -> enoent;
posix(5) -> eio;
posix(13) -> eacces;
posix(27) -> efbig;
posix(28) -> enospc;
posix(30) -> erofs;
posix(40) -> eloop;
posix(122) -> edquot;
posix(_) -> unknown.
