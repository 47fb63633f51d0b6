%% What an administrator may ask of a fleet: the verbs, their arguments and answers. Any node that
%% is in it may be asked.
-module(meerkat_fleet_admin).

-export([handle/3]).
-export_type([question/0]).

-type question() :: {fleet, [term()]}.

%% {fleet, [status]}                   #{nodes, silent}: of each node what meerkat:status/1 says,
%% with
%%                                     `node`; and those that did not answer
%% {fleet, [allocations, Filter]}      #{total, allocations, silent}: meerkat_sessions:list/2 of all
%%                                     nodes, each with `node`
%% {fleet, [disconnect, {user, User}]}, {fleet, [revoke, User]}, {fleet, [revoke, User, TtlS]}
%%                                     #{ended, silent}: how many allocations
%% {fleet, [drain, Node, Options]}     as meerkat_admin's drain, on that node: #{node, allocations}
%% {fleet, [undrain, Node]}            #{node, draining}
%% {fleet, [dns, Domain, TtlS]}        #{records}: meerkat_fleet_dns:records/3 of the nodes that are
%%                                     known here, this one too
%% {fleet, [loglevel]}, {fleet, [loglevel, Level]}   #{levels, silent}: node and level of each
%%
%% Who is named by its whole name, or by the part before or behind the `@` where that is one node's.
-spec handle(question(), Server :: atom(), meerkat_audit:who()) -> meerkat_admin:answer().
handle({fleet, Question}, Server, Who) ->
    case meerkat_fleet:info(Server) of
        none -> {error, <<"this server is in no fleet: the key fleet makes it a member of one">>};
        Fleet -> asked(Question, Server, Fleet, Who)
    end.

asked([status], Server, _Fleet, Who) ->
    answers(all(Server, {status, []}, Who), fun(Answers) ->
        #{nodes => [Status#{node => atom_to_binary(Node)} || {Node, Status} <- Answers]}
    end);
asked([allocations, Filter], Server, _Fleet, _Who) when is_map(Filter) ->
    #{usernames := Order} = meerkat_registry:settings(Server),
    merged(Filter, Order, meerkat_fleet:allocations(Server, Filter));
asked([disconnect, {user, User}], Server, _Fleet, Who) when is_binary(User) ->
    #{answers := Answers} = Told = meerkat_fleet:disconnect(Server, {user, User}, Who),
    %% A node where the user has no allocation says so; here that is none of many.
    ended(Told#{answers := [{Node, case Answer of {ok, N} -> {ok, N}; {error, _} -> {ok, 0} end}
                            || {Node, Answer} <- Answers]});
asked([revoke, User | Ttl], Server, _Fleet, Who) when is_binary(User) ->
    ended(all(Server, {revoke, [User | Ttl]}, Who));
asked([drain, Node, #{} = Options], Server, Fleet, Who) when is_binary(Node) ->
    one(Node, {drain, [Options]}, Server, Fleet, Who, fun(N) -> #{allocations => N} end);
asked([undrain, Node], Server, Fleet, Who) when is_binary(Node) ->
    one(Node, {undrain, []}, Server, Fleet, Who, fun(done) -> #{draining => false} end);
asked([dns, Domain, Ttl], Server, _Fleet, _Who) when is_binary(Domain), is_integer(Ttl) ->
    Places = [meerkat_services:place(Server) | meerkat_elsewhere:places(Server)],
    {ok, #{records => meerkat_fleet_dns:records(Domain, Ttl, Places)}};
asked([loglevel | Level], Server, _Fleet, Who) ->
    answers(all(Server, {loglevel, Level}, Who), fun(Answers) ->
        #{levels => [#{node => atom_to_binary(Node), level => L} || {Node, L} <- Answers]}
    end);
asked(_, _Server, _Fleet, _Who) ->
    {error, <<"the server does not know this question; is it older than meerkatctl?">>}.

all(Server, Question, Who) ->
    meerkat_fleet:ask(Server, all, Question, Who).

%% A refusal of one node is the answer: it is the same for all, or the operator must know.
answers(#{answers := Answers, silent := Silent}, Made) ->
    case [{Node, Sentence} || {Node, {error, Sentence}} <- Answers] of
        [] ->
            Good = [{Node, Answer} || {Node, {ok, Answer}} <- Answers],
            {ok, (Made(Good))#{silent => [atom_to_binary(Node) || Node <- Silent]}};
        [{Node, Sentence} | _] ->
            {error, <<(atom_to_binary(Node))/binary, ": ", Sentence/binary>>}
    end.

merged(Filter, Order, Told) ->
    answers(Told, fun(Answers) ->
        Rows = [Row#{node => atom_to_binary(Node)}
                || {Node, #{allocations := Rows}} <- Answers, Row <- Rows],
        #{total => lists:sum([Total || {_, #{total := Total}} <- Answers]),
          allocations => limited(Filter, sorted(maps:get(sort, Filter, age), Order, Rows))}
    end).

%% As meerkat_sessions sorts those of one node.
sorted(Sort, Order, Rows) ->
    [Row || {_, Row} <- lists:keysort(1, [{{key(Sort, Order, Row), key(age, Order, Row)}, Row}
                                          || Row <- Rows])].

key(age, _Order, #{age_ms := Age}) -> -Age;
key(bytes, _Order, Row) -> -(maps:get(client_bytes, Row, 0) + maps:get(peer_bytes, Row, 0));
key(user, Order, #{user := User}) -> meerkat_quota:user_key(User, Order).

limited(#{limit := Limit}, Rows) -> lists:sublist(Rows, Limit);
limited(#{}, Rows) -> Rows.

ended(Told) ->
    answers(Told, fun(Answers) -> #{ended => lists:sum([N || {_, N} <- Answers])} end).

one(Text, Question, Server, #{members := Members, missing := Missing}, Who, Made) ->
    case meerkat_fleet_nodes:find(Text, Members ++ Missing) of
        {ok, Node} ->
            case meerkat_fleet:ask(Server, Node, Question, Who) of
                #{answers := [{_, {ok, Answer}}]} ->
                    {ok, (Made(Answer))#{node => atom_to_binary(Node)}};
                #{answers := [{_, {error, Sentence}}]} ->
                    {error, Sentence};
                #{answers := []} ->
                    {error, <<(atom_to_binary(Node))/binary, " does not answer">>}
            end;
        {error, none} ->
            {error, said(["no node of the fleet is called ", meerkat_text:escape(Text), "; it has ",
                          names(Members)])};
        {error, Several} ->
            {error, said([meerkat_text:escape(Text), " may be ", names(Several)])}
    end.

names(Nodes) -> lists:join(", ", [atom_to_list(Node) || Node <- Nodes]).

said(Words) -> unicode:characters_to_binary(Words).
