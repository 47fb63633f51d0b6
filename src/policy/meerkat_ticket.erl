%% Mobility tickets (RFC 8016 3.3, 5): who holds one and is the user it was made for may take the
%% allocation to another address. Pure.
%%
%% A ticket is the session's id and the ticket's number in it, enciphered and authenticated as in
%% RFC 5297: a digest of the plain text is both its authentication and the initialisation vector. No
%% two tickets have the same plain text, so none needs a nonce, and everything fits into 32
%% characters, the most that coturn's client can keep. No ticket is stored: one that can be opened
%% was made here, and the session that it names is looked for.
-module(meerkat_ticket).

-export([new_key/0, raw/1, key/1, seal/3, open/2]).

-export_type([key/0, ordinal/0]).

%% In a fun, so that no crash report prints it.
-opaque key() :: fun(() -> {Digest :: <<_:256>>, Cipher :: <<_:256>>}).
%% Of the tickets that one allocation has had; counts round.
-type ordinal() :: 0..16#ffff.

-define(PROOF, 14).     % bytes

%% Made at random at each start, unless there are sessions of the VM before (meerkat_keep).
-spec new_key() -> key().
new_key() ->
    Keys = {crypto:strong_rand_bytes(32), crypto:strong_rand_bytes(32)},
    fun() -> Keys end.

%% The key's bytes, for meerkat_keep, which keeps them for another VM; and a key of them.
-spec raw(key()) -> {Digest :: <<_:256>>, Cipher :: <<_:256>>}.
raw(Key) ->
    Key().

-spec key({Digest :: <<_:256>>, Cipher :: <<_:256>>}) -> key().
key({<<_:256>>, <<_:256>>} = Keys) ->
    fun() -> Keys end.

%% 32 characters of base64url, the same for the same arguments.
-spec seal(Session :: non_neg_integer(), ordinal(), key()) -> Ticket :: binary().
seal(Session, Number, Key) ->
    Plain = <<Session:64, Number:16>>,
    Proof = proof(Plain, Key),
    base64url(<<Proof/binary, (cipher(Proof, Plain, Key))/binary>>).

%% What seal/3 was given; anything it did not make with this key is forged.
-spec open(Ticket :: binary(), key()) ->
    {ok, Session :: non_neg_integer(), ordinal()} | {error, forged}.
open(Ticket, Key) ->
    case bytes(Ticket) of
        <<Proof:?PROOF/binary, Text:10/binary>> ->
            <<Session:64, Number:16>> = Plain = cipher(Proof, Text, Key),
            case crypto:hash_equals(Proof, proof(Plain, Key)) of
                true -> {ok, Session, Number};
                false -> {error, forged}
            end;
        _ ->
            {error, forged}
    end.

proof(Plain, Key) ->
    {Digest, _} = Key(),
    crypto:macN(hmac, sha256, Digest, Plain, ?PROOF).

%% Its own inverse.
cipher(Proof, Text, Key) ->
    {_, Cipher} = Key(),
    crypto:crypto_one_time(aes_256_ctr, Cipher, <<Proof/binary, 0:16>>, Text, true).

%% 24 bytes are 32 characters without padding; anything else is no ticket.
base64url(Bytes) ->
    << <<(url(C))>> || <<C>> <= base64:encode(Bytes) >>.

url($+) -> $-;
url($/) -> $_;
url(C) -> C.

bytes(<<Ticket:32/binary>>) ->
    try
        base64:decode(<< <<(plain(C))>> || <<C>> <= Ticket >>)
    catch
        error:_ -> <<>>
    end;
bytes(_Ticket) ->
    <<>>.

%% One text for each ticket: what base64 alone would take is not ours.
plain($-) -> $+;
plain($_) -> $/;
plain(C) when C =:= $+; C =:= $/ -> 0;
plain(C) -> C.
