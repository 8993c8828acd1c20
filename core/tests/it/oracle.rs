//! A second opinion: whatever our verifier accepts, an independent library accepts too, configured as strictly as it
//! can be, and reads the same claims from it. Ours may refuse more, and does.
//!
//! The library has no ES512 and checks neither `iat` nor lifetimes; `core/src/trust/wycheproof.rs` and the tables of
//! [`crate::trust`] hold those. `CLAIMBOUND_SOAK=1` runs a hundred times the cases.

use crate::minting::{ALL, AUDIENCE, ISSUER, Key, RS256, encode, rules, snapshot};
use claimbound_core::{
    time::UnixSeconds,
    trust::{Algorithm, IssuerTable, UnverifiedToken, parse_jwks, verify},
};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, get_current_timestamp, jwk::JwkSet};
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use serde_json::{Map, Value, json};
use std::{cell::Cell, sync::LazyLock};

/// One key for each algorithm that both know; its `kid` is the algorithm's name. RSA's are one number: what one of them
/// signed under another scheme must still not hold.
static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let both = ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Es512);
    let of = |algorithm: Algorithm| match algorithm.name().starts_with(['R', 'P']) {
        true => RS256.shared(algorithm.name(), algorithm),
        false => Key::new(algorithm.name(), algorithm),
    };
    both.map(of).collect()
});

fn cases(few: u32) -> u32 {
    if std::env::var_os("CLAIMBOUND_SOAK").is_some_and(|soak| soak == "1") { few * 100 } else { few }
}

/// Both verifiers over one key set.
struct Bench {
    ours: IssuerTable,
    theirs: Option<JwkSet>,
}

impl Bench {
    fn new(jwks: &Value) -> Self {
        let text = jwks.to_string();
        let mut ours = IssuerTable::default();
        if let Ok(set) = parse_jwks(text.as_bytes(), &ALL) {
            let mut snapshot = snapshot(ISSUER, set, rules());
            snapshot.keys_valid_until = UnixSeconds(i64::MAX);
            ours.insert(snapshot);
        }
        Self { ours, theirs: serde_json::from_str(&text).ok() }
    }

    fn ours(&self, token: &str, now: i64) -> Option<Value> {
        let mut buffer = Vec::new();
        let token = UnverifiedToken::parse(token, &mut buffer).ok()?;
        verify(&token, &self.ours, UnixSeconds(now)).ok().map(|verified| verified.claims().to_json())
    }

    fn theirs(&self, token: &str) -> Result<Value, String> {
        let said = |error: jsonwebtoken::errors::Error| error.to_string();
        let header = decode_header(token).map_err(said)?;
        let set = self.theirs.as_ref().ok_or("no key set")?;
        let jwk = set.find(header.kid.as_deref().ok_or("no `kid`")?).ok_or("no such key")?;
        let stated = jwk.common.key_algorithm.as_ref().map(|stated| stated.to_string().parse().map_err(said));
        let mut strict = Validation::new(stated.transpose()?.unwrap_or(header.alg));
        strict.set_audience(&[AUDIENCE]);
        strict.set_issuer(&[ISSUER]);
        strict.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        strict.validate_nbf = true;
        let key = DecodingKey::from_jwk(jwk).map_err(said)?;
        decode::<Value>(token, &key, &strict).map(|token| token.claims).map_err(said)
    }

    /// Whether ours accepts the token; then theirs must. Their clock is the machine's, so ours is asked before and
    /// after them, and only a token that held at both times has to hold at theirs.
    fn never_more_lenient(&self, token: &str) -> Result<bool, TestCaseError> {
        let now = || get_current_timestamp() as i64;
        let before = self.ours(token, now());
        let theirs = self.theirs(token);
        let Some(claims) = self.ours(token, now()).filter(|_| before.is_some()) else { return Ok(false) };
        match theirs {
            Ok(read) => prop_assert_eq!(&claims, &read, "other claims: {}", token),
            Err(error) => prop_assert!(false, "ours alone accepts ({error}): {token}"),
        }
        Ok(true)
    }
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| Bench::new(&jwks()));

fn jwks() -> Value {
    json!({ "keys": KEYS.iter().map(Key::jwk).collect::<Vec<_>>() })
}

/// Runs a property and asserts that it met both verdicts often enough to mean something.
fn weighed<S: Strategy>(few: u32, strategy: S, check: impl Fn(S::Value) -> Result<bool, TestCaseError>) {
    let config = ProptestConfig { cases: cases(few), failure_persistence: None, ..ProptestConfig::default() };
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let count = |verdict: bool| {
        let cell = if verdict { &accepted } else { &refused };
        cell.set(cell.get() + 1);
    };
    if let Err(error) = TestRunner::new(config).run(&strategy, |case| check(case).map(count)) {
        panic!("{error}");
    }
    let floor = cases(few) / 50;
    assert!(accepted.get() > floor, "{} accepted of {}", accepted.get(), cases(few));
    assert!(refused.get() > floor, "{} refused of {}", refused.get(), cases(few));
}

/// A change of one member; `None` takes it out. Times are relative to the moment of the run.
type Edit = (&'static str, Option<Said>);

#[derive(Clone, Debug)]
enum Said {
    Json(Value),
    /// Seconds from now, as an integer, a fraction or text.
    Time(i64, Spelling),
}

#[derive(Clone, Copy, Debug)]
enum Spelling {
    Integer,
    Fraction,
    Text,
    List,
}

impl Said {
    fn value(&self, now: i64) -> Value {
        match self {
            Self::Json(value) => value.clone(),
            Self::Time(offset, Spelling::Integer) => (now + offset).into(),
            Self::Time(offset, Spelling::Fraction) => json!((now + offset) as f64 + 0.5),
            Self::Time(offset, Spelling::Text) => (now + offset).to_string().into(),
            Self::Time(offset, Spelling::List) => json!([now + offset]),
        }
    }
}

fn oddities() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            Value::Null,
            json!(true),
            json!(0),
            json!(-1),
            json!(1.5),
            json!(u64::MAX),
            json!(""),
            json!([]),
            json!({}),
            json!([AUDIENCE]),
            json!([AUDIENCE, AUDIENCE]),
            json!([AUDIENCE, "other"]),
            json!([ISSUER]),
            json!(["x", ISSUER]),
            json!({ "": AUDIENCE }),
            json!(AUDIENCE.to_uppercase()),
            json!(format!("{ISSUER}/")),
            json!([[AUDIENCE]]),
        ]),
        "\\PC{0,12}".prop_map(Value::from),
    ]
}

fn times() -> impl Strategy<Value = Said> {
    let edges = vec![-4000_i64, -3600, -120, -61, -60, -59, -1, 0, 1, 59, 60, 61, 120, 300, 3540, 3600, 3601, 90_000];
    let spelling = prop_oneof![
        8 => Just(Spelling::Integer), 1 => Just(Spelling::Fraction), 1 => Just(Spelling::Text), 1 => Just(Spelling::List),
    ];
    (prop::sample::select(edges), spelling).prop_map(|(offset, spelling)| Said::Time(offset, spelling))
}

fn claim_edits() -> impl Strategy<Value = Vec<Edit>> {
    let time = (prop::sample::select(vec!["exp", "iat", "nbf"]), times()).prop_map(|(name, time)| (name, Some(time)));
    let names = vec!["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "repository", "groups", "x"];
    let odd =
        (prop::sample::select(names.clone()), oddities()).prop_map(|(name, value)| (name, Some(Said::Json(value))));
    let gone = prop::sample::select(names).prop_map(|name| (name, None));
    prop::collection::vec(prop_oneof![4 => time, 3 => odd, 1 => gone], 0..3)
}

fn header_edits() -> impl Strategy<Value = Vec<Edit>> {
    let kids = ALL.map(|algorithm| json!(algorithm.name()));
    let values = vec![
        json!("none"),
        json!("HS256"),
        json!("ES512"),
        json!("JWT"),
        json!("jwt"),
        json!("at+jwt"),
        Value::Null,
        json!(7),
        json!(["RS256"]),
        json!(["exp"]),
        json!("https://evil.example/jwks"),
        json!(false),
        json!("DEF"),
        json!(""),
    ];
    let names = vec!["alg", "kid", "typ", "crit", "jku", "x5u", "jwk", "x5c", "b64", "zip", "cty", "enc"];
    let text = (prop::sample::select(vec!["x", "ver", "x5t", "nonce"]), "[a-z]{0,4}".prop_map(Value::from));
    let odd = (prop::sample::select(names.clone()), prop::sample::select(values));
    let other = (prop::sample::select(vec!["alg", "kid"]), prop::sample::select(kids.to_vec()));
    let said = prop_oneof![2 => odd, 2 => other, 2 => text].prop_map(|(name, value)| (name, Some(Said::Json(value))));
    let gone = prop::sample::select(names).prop_map(|name| (name, None));
    prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(prop_oneof![5 => said, 1 => gone], 1..3)]
}

/// How a JSON text is written: what it says stays the same, or is said twice.
#[derive(Clone, Copy, Debug)]
enum Written {
    Plainly,
    WithSpace,
    Escaped,
    MemberTwice,
    Trailing(&'static str),
    Leading(&'static str),
}

impl Written {
    fn write(self, value: &Value) -> String {
        let text = value.to_string();
        let last = |text: &str| text.strip_suffix('}').unwrap_or(text).to_owned();
        match self {
            Self::Plainly => text,
            Self::WithSpace => serde_json::to_string_pretty(value).unwrap(),
            Self::Escaped => {
                text.replace("\"iss\"", "\"\\u0069ss\"").replace("acme", "\\u0061cme").replace("alg", "al\\u0067")
            }
            Self::MemberTwice => format!("{},\"sub\":\"evil\",\"alg\":\"none\"}}", last(&text)),
            Self::Trailing(more) => text + more,
            Self::Leading(more) => format!("{more}{text}"),
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    use Written::*;
    prop_oneof![
        6 => Just(Plainly),
        3 => prop::sample::select(vec![WithSpace, Escaped, Trailing(" "), Trailing("\r\n\t"), Leading("\n ")]),
        1 => prop::sample::select(vec![MemberTwice, Trailing("x"), Trailing("{}"), Trailing("\0"), Leading("\u{feff}")]),
    ]
}

/// What happens to a token's text once it is signed.
#[derive(Clone, Debug)]
enum Damage {
    None,
    Byte(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    /// Texts that a lax base64 reader takes for the same bytes.
    Padded(usize),
    Standard(usize),
    SpareBits(usize),
    Split(usize),
    /// Segments of another good token of the same key, or one's own twice.
    Swap(usize, usize),
    Resigned(Signature),
    Wrapped(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug)]
enum Signature {
    Empty,
    Zeros,
    Ones,
    Longer,
    Shorter,
    Der,
    OfAnotherKey,
}

fn damage() -> impl Strategy<Value = Damage> {
    use Signature::*;
    let bytes = || prop_oneof![4 => prop::sample::select(b"AZaz09-_=+/. \n".to_vec()), 1 => 0_u8..0x80];
    let signatures = prop::sample::select(vec![Empty, Zeros, Ones, Longer, Shorter, Der, OfAnotherKey]);
    let wraps = vec![
        ("Bearer ", ""),
        (" ", ""),
        ("", "\n"),
        ("", "."),
        (".", ""),
        ("\u{feff}", ""),
        ("", ".e30.AA"),
        ("\"", "\""),
    ];
    prop_oneof![
        12 => Just(Damage::None),
        2 => (any::<Index>(), bytes()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => (any::<Index>(), bytes()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => any::<Index>().prop_map(Damage::Remove),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (0_usize..3).prop_map(Damage::Padded),
        1 => (0_usize..3).prop_map(Damage::Standard),
        1 => (0_usize..3).prop_map(Damage::SpareBits),
        1 => (0_usize..3).prop_map(Damage::Split),
        1 => (0_usize..3, 0_usize..3).prop_map(|(from, to)| Damage::Swap(from, to)),
        2 => signatures.prop_map(Damage::Resigned),
        1 => prop::sample::select(wraps).prop_map(|(before, after)| Damage::Wrapped(before, after)),
    ]
}

impl Damage {
    fn done(&self, token: String, key: usize) -> String {
        let mut bytes = token.clone().into_bytes();
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        match self {
            Self::None => return token,
            Self::Byte(at, byte) => *at.get_mut(&mut bytes) = *byte,
            Self::Insert(at, byte) => bytes.insert(at.index(token.len()), *byte),
            Self::Remove(at) => drop(bytes.remove(at.index(token.len()))),
            Self::Cut(at) => bytes.truncate(at.index(token.len())),
            Self::Wrapped(before, after) => return format!("{before}{token}{after}"),
            Self::Padded(part) => {
                let padding = "=".repeat(4 - parts[*part].len() % 4);
                parts[*part] += &padding;
            }
            Self::Standard(part) => parts[*part] = parts[*part].replace('-', "+").replace('_', "/"),
            Self::SpareBits(part) => parts[*part] = spare_bits(&parts[*part]),
            Self::Split(part) => parts[*part].insert(4, '\n'),
            Self::Swap(from, to) => parts[*to] = parts[*from].clone(),
            Self::Resigned(signature) => {
                let signed = token.rsplit_once('.').unwrap().0;
                parts[2] = encode(signature.bytes(signed, key));
            }
        }
        match self {
            Self::Byte(..) | Self::Insert(..) | Self::Remove(_) | Self::Cut(_) => {
                String::from_utf8(bytes).unwrap_or_default()
            }
            _ => parts.join("."),
        }
    }
}

impl Signature {
    fn bytes(self, signed: &str, key: usize) -> Vec<u8> {
        let good = KEYS[key].sign(signed.as_bytes());
        match self {
            Self::Empty => Vec::new(),
            Self::Zeros => vec![0; good.len()],
            Self::Ones => vec![0xff; good.len()],
            Self::Longer => [&good[..], &[0]].concat(),
            Self::Shorter => good[..good.len() - 1].to_vec(),
            Self::Der => [&[0x30, good.len() as u8, 2, 32][..], &good].concat(),
            Self::OfAnotherKey => KEYS[(key + 1) % KEYS.len()].sign(signed.as_bytes()),
        }
    }
}

/// The last letter with its unused bits set, where it has any.
fn spare_bits(text: &str) -> String {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let Some((last, rest)) = text.chars().last().zip(text.get(..text.len().saturating_sub(1))) else {
        return String::new();
    };
    let number = LETTERS.find(last).unwrap_or_default();
    let letter = LETTERS.as_bytes()[if text.len().is_multiple_of(4) { number } else { number | 1 }];
    format!("{rest}{}", char::from(letter))
}

fn edited(mut object: Map<String, Value>, edits: &[Edit], now: i64) -> Value {
    for (name, said) in edits {
        match said {
            Some(said) => drop(object.insert((*name).to_owned(), said.value(now))),
            None => drop(object.remove(*name)),
        }
    }
    Value::Object(object)
}

fn claims(now: i64) -> Map<String, Value> {
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:acme/api:ref:refs/heads/main", "jti": "j", "iat": now - 5,
        "nbf": now - 60, "exp": now + 600, "repository": "acme/api", "groups": [{ "n": [1, 0.5, null] }, "\u{e9}"],
    });
    claims.as_object().unwrap().clone()
}

#[test]
fn both_accept_the_plain_tokens_of_every_algorithm() {
    let now = get_current_timestamp() as i64;
    for key in KEYS.iter() {
        let token = key.says(&claims(now).into());
        assert!(BENCH.never_more_lenient(&token).unwrap(), "{}", key.kid);
    }
}

#[test]
fn ours_is_never_more_lenient_than_an_independent_verifier() {
    let strategy = (0..KEYS.len(), header_edits(), claim_edits(), written(), written(), damage());
    weighed(1_500, strategy, |(key, header, payload, header_written, payload_written, damage)| {
        let now = get_current_timestamp() as i64;
        let plain = KEYS[key].header().as_object().unwrap().clone();
        let header = header_written.write(&edited(plain, &header, now));
        let payload = payload_written.write(&edited(claims(now), &payload, now));
        let token = damage.done(KEYS[key].token(header, payload), key);
        BENCH.never_more_lenient(&token)
    });
}

#[test]
fn nor_over_odd_key_sets() {
    let members = vec!["kty", "crv", "alg", "use", "kid", "n", "e", "x", "y", "x5t"];
    let values = vec![
        "RSA", "EC", "OKP", "P-256", "P-384", "Ed25519", "RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", "sig",
        "enc", "AQAB", "Aw", "AQ", "", "AA", "AAAA",
    ];
    let change = prop_oneof![
        3 => (prop::sample::select(members.clone()), prop::sample::select(values)).prop_map(|(name, text)| (name, Some(text))),
        1 => prop::sample::select(members).prop_map(|name| (name, None)),
    ];
    let strategy =
        (0..KEYS.len(), prop::collection::vec((any::<Index>(), change), 0..3), any::<Option<(Index, Index)>>());
    weighed(300, strategy, |(key, changes, twin)| {
        let mut jwks = jwks();
        let entries = jwks["keys"].as_array_mut().unwrap();
        for (at, (name, text)) in changes {
            // Half of the changes meet the key that is asked for.
            let at = if at.index(2) == 0 { key } else { at.index(entries.len()) };
            match text {
                Some(text) => entries[at][name] = text.into(),
                None => drop(entries[at].as_object_mut().unwrap().remove(name)),
            }
        }
        if let Some((from, to)) = twin {
            let (from, to) = (from.index(entries.len()), to.index(entries.len()));
            entries[to]["kid"] = entries[from]["kid"].clone();
        }
        let token = KEYS[key].says(&claims(get_current_timestamp() as i64).into());
        Bench::new(&jwks).never_more_lenient(&token)
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn neither_accepts_what_nobody_signed(
        text in "[A-Za-z0-9_-]{0,60}(\\.[A-Za-z0-9_-]{0,60}){0,4}|\\PC{0,80}",
        header in "\\{\"alg\":\"(none|RS256|ES256|EdDSA|HS256)\"(,\"kid\":\"(RS256|ES256|EdDSA)\")?\\}",
        payload in "\\PC{0,60}",
        signature in prop::collection::vec(any::<u8>(), 0..70),
    ) {
        let now = get_current_timestamp() as i64;
        let good = Value::Object(claims(now)).to_string();
        for token in [
            text,
            format!("{}.{}.{}", encode(&header), encode(payload), encode(&signature)),
            format!("{}.{}.{}", encode(&header), encode(good), encode(&signature)),
        ] {
            prop_assert!(BENCH.ours(&token, now).is_none());
            prop_assert!(BENCH.theirs(&token).is_err());
        }
    }
}
