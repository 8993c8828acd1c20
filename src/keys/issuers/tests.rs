use super::{discovery::jwks_uri, *};
use claimbound_core::{
    trust::{Algorithm, IssuerRules, parse_jwks},
    workload::SingleUseRule,
};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

const NOW: i64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);
const SLOW: KeyTimes = KeyTimes { floor: HOUR, interval: HOUR, keep: Duration::from_secs(86400) };
const NO_FLOOR: KeyTimes = KeyTimes { floor: Duration::ZERO, ..SLOW };

struct HeldClock(AtomicI64);
impl Clock for HeldClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0.load(Ordering::SeqCst))
    }
}

/// Answers what it was told to, in order, the last answer again and again; each fetch takes a permit.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    permits: Semaphore,
    fetches: AtomicUsize,
}

#[derive(Clone)]
enum Answer {
    Kids(&'static [&'static str]),
    /// One good key and one that is not used.
    HalfUsable,
    Unusable,
    Down,
}

impl Source for Arc<Script> {
    fn fetch<'a>(&'a self, _: &'a IssuerConfig) -> Later<'a, Result<KeySet, String>> {
        Box::pin(async {
            self.permits.acquire().await.expect("never closed").forget();
            self.fetches.fetch_add(1, Ordering::SeqCst);
            let mut answers = lock(&self.answers);
            let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            match answer.expect("at least one answer") {
                Answer::Kids(kids) => Ok(key_set(kids)),
                Answer::HalfUsable => {
                    let ignored = vec![("k".to_owned(), "too short".to_owned())];
                    Ok(KeySet { ignored, ..key_set(&["k1"]) })
                }
                Answer::Unusable => {
                    Ok(KeySet { keys: HashMap::new(), ignored: vec![("k".to_owned(), "too short".to_owned())] })
                }
                Answer::Down => Err("connection refused".to_owned()),
            }
        })
    }
}

fn key_set(kids: &[&str]) -> KeySet {
    parse_jwks(&document(kids), &[Algorithm::Es256]).unwrap()
}

fn document(kids: &[&str]) -> Vec<u8> {
    let keys: Vec<_> = kids
        .iter()
        .map(|kid| {
            // The base point of P-256 (FIPS 186-5): a valid key of which everyone knows the private part.
            serde_json::json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid,
                "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
                "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU" })
        })
        .collect();
    serde_json::to_vec(&serde_json::json!({ "keys": keys })).unwrap()
}

fn issuer(name: &str) -> IssuerConfig {
    IssuerConfig {
        name: name.to_owned(),
        url: format!("https://{name}.example"),
        rules: IssuerRules {
            audience: "https://claimbound.example".to_owned(),
            max_lifetime_seconds: 3600,
            single_use: SingleUseRule::Jti,
            actor_single_use: SingleUseRule::Jti,
            requires_nbf: false,
            required: Vec::new(),
        },
        algorithms: vec![Algorithm::Es256],
        allow_private_network: false,
        development: false,
        ca_file: None,
        jwks_origin: None,
        pin: None,
        refresh: None,
        cut: Cut::default(),
    }
}

struct Room {
    cache: Arc<KeyCache>,
    script: Arc<Script>,
    clock: Arc<HeldClock>,
}

impl Room {
    fn new(answers: &[Answer], permits: usize, times: KeyTimes) -> Self {
        let script = Arc::new(Script {
            answers: Mutex::new(answers.iter().cloned().collect()),
            permits: Semaphore::new(permits),
            fetches: AtomicUsize::new(0),
        });
        let clock = Arc::new(HeldClock(AtomicI64::new(NOW)));
        let cache = KeyCache::over(Box::new(Arc::clone(&script)), vec![issuer("a")], clock.clone(), times);
        Self { cache, script, clock }
    }
    async fn refresh(&self) -> Result<(), String> {
        self.cache.refresh("a").await.map(|_| ()).map_err(|down| down.why)
    }
    fn fetches(&self) -> usize {
        self.script.fetches.load(Ordering::SeqCst)
    }
    fn kids(&self) -> Vec<String> {
        let table = self.cache.table();
        let mut kids: Vec<_> = table.get("https://a.example").unwrap().keys.keys().cloned().collect();
        kids.sort();
        kids
    }
    fn valid_until(&self) -> i64 {
        self.cache.table().get("https://a.example").unwrap().keys_valid_until.0
    }
}

#[tokio::test]
async fn before_the_first_fetch_the_issuer_is_known_and_nothing_is_believed() {
    let room = Room::new(&[Answer::Down], 9, SLOW);
    assert!(room.kids().is_empty());
    assert_eq!(room.valid_until(), i64::MIN);
    assert!(room.cache.table().get("https://b.example").is_none());
    assert_eq!(room.cache.refresh("b").await.err().unwrap().why, "is not configured");
    assert_eq!(room.fetches(), 0);
}

#[tokio::test]
async fn security_093_the_floor_counts_every_kind_of_answer() {
    for (answer, error) in [
        (Answer::Kids(&["k1"]), None),
        (Answer::Kids(&[]), Some("its key set is empty")),
        (Answer::Unusable, Some("none of the 1 keys in its set is usable; the first, `k`: too short")),
        (Answer::Down, Some("connection refused")),
    ] {
        let room = Room::new(&[answer], 100_000, SLOW);
        for _ in 0..10_000 {
            assert_eq!(room.refresh().await.err().as_deref(), error);
        }
        assert_eq!(room.fetches(), 1, "{error:?}");
        assert_eq!(room.cache.health()["a"].last_error.as_deref(), error);
    }
}

#[tokio::test]
async fn security_102_one_fetch_serves_all_who_wait_for_it() {
    let room = Room::new(&[Answer::Kids(&["k1"])], 0, NO_FLOOR);
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let cache = Arc::clone(&room.cache);
            tokio::spawn(async move { cache.refresh("a").await.map(|_| ()) })
        })
        .collect();
    // Single thread: once this task has been put behind them all, and their own tasks behind that, all 64 wait.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(room.kids(), [""; 0], "readers do not wait for the fetch");
    room.script.permits.add_permits(64);
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    assert_eq!(room.fetches(), 1);
    room.refresh().await.unwrap();
    assert_eq!(room.fetches(), 2, "without a floor, who asks later asks anew");
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_stop_the_fetch() {
    let room = Room::new(&[Answer::Kids(&["k1"])], 0, SLOW);
    let left = tokio::time::timeout(Duration::from_millis(5), room.refresh()).await;
    assert!(left.is_err());
    room.script.permits.add_permits(9);
    room.refresh().await.unwrap();
    assert_eq!((room.fetches(), room.kids()), (1, vec!["k1".to_owned()]));
}

#[tokio::test]
async fn security_094_good_keys_outlive_failures_and_end_when_withdrawn_or_too_old() {
    let answers =
        [Answer::Kids(&["k1", "k2"]), Answer::Down, Answer::Kids(&[]), Answer::Unusable, Answer::Kids(&["k2", "k3"])];
    let room = Room::new(&answers, 9, NO_FLOOR);
    room.cache.warm().await;
    assert_eq!(room.kids(), ["k1", "k2"]);
    assert_eq!(room.valid_until(), NOW + 86400);
    room.clock.0.store(NOW + 100, Ordering::SeqCst);
    for _ in 0..3 {
        room.refresh().await.unwrap_err();
        assert_eq!(room.kids(), ["k1", "k2"], "a failure takes nothing away");
        assert_eq!(room.valid_until(), NOW + 86400, "and makes nothing younger");
    }
    let health = room.cache.health()["a"].clone();
    assert_eq!((health.keys, health.fetched), (2, Some(UnixSeconds(NOW))));
    room.refresh().await.unwrap();
    assert_eq!(room.kids(), ["k2", "k3"], "a withdrawn key ends");
    assert_eq!(room.valid_until(), NOW + 100 + 86400);
    assert_eq!(room.cache.health()["a"].last_error, None);
}

#[tokio::test]
async fn security_098_an_issuer_that_hangs_holds_up_no_other() {
    struct Hanging(Arc<Script>);
    impl Source for Hanging {
        fn fetch<'a>(&'a self, issuer: &'a IssuerConfig) -> Later<'a, Result<KeySet, String>> {
            if issuer.name == "hangs" { Box::pin(std::future::pending()) } else { self.0.fetch(issuer) }
        }
    }
    let Room { script, clock, .. } = Room::new(&[Answer::Kids(&["k1"])], 9, SLOW);
    let cache = KeyCache::over(Box::new(Hanging(script)), vec![issuer("hangs"), issuer("a")], clock, SLOW);
    let background = cache.spawn_refresh();
    let table = cache.refresh("a").await.unwrap();
    assert_eq!(table.get("https://a.example").unwrap().keys.len(), 1);
    assert_eq!(table.get("https://hangs.example").unwrap().keys.len(), 0);
    background.abort();
}

#[tokio::test]
async fn a_reload_keeps_keys_of_issuers_that_stay() {
    let room = Room::new(&[Answer::Kids(&["k1"])], 9, SLOW);
    room.cache.warm().await;
    let mut rules_changed = issuer("a");
    rules_changed.rules.max_lifetime_seconds = 60;
    room.cache.replace(vec![rules_changed, issuer("b")]);
    let table = room.cache.table();
    assert_eq!(table.get("https://a.example").unwrap().rules.max_lifetime_seconds, 60);
    assert_eq!(room.kids(), ["k1"]);
    assert!(table.get("https://b.example").unwrap().keys.is_empty());
    room.refresh().await.unwrap();
    assert_eq!(room.fetches(), 1, "the floor outlives the reload");

    room.cache.replace(vec![IssuerConfig { allow_private_network: true, ..issuer("a") }]);
    room.refresh().await.unwrap();
    assert_eq!(room.fetches(), 2, "other network facts are tried at once");

    room.cache.replace(vec![IssuerConfig { algorithms: vec![Algorithm::Rs256], ..issuer("a") }]);
    assert!(room.kids().is_empty(), "keys that may no longer be permitted are not kept");
    room.cache.replace(vec![issuer("b")]);
    assert!(room.cache.table().get("https://a.example").is_none());
}

#[tokio::test]
async fn the_background_asks_new_issuers_at_once_and_failing_ones_sooner() {
    let room = Room::new(&[Answer::Kids(&["k1"]), Answer::Down], 99, SLOW);
    let start = Instant::now();
    assert_eq!(room.cache.inner.due(start).0.len(), 1, "never fetched");
    let background = room.cache.spawn_refresh();
    while room.kids().is_empty() {
        tokio::task::yield_now().await;
    }
    room.cache.replace(vec![issuer("a"), issuer("b")]);
    while room.fetches() < 2 {
        tokio::task::yield_now().await;
    }
    background.abort();

    let times = KeyTimes { floor: HOUR / 60, interval: HOUR, keep: HOUR };
    let room = Room::new(&[Answer::Down, Answer::Kids(&["k1"])], 99, times);
    room.cache.warm().await;
    let after = Instant::now();
    let due_in = |seconds| room.cache.inner.due(after + Duration::from_secs(seconds)).0.len();
    assert_eq!((due_in(300), due_in(360)), (0, 1), "a tenth of the interval after a failure");
}

#[test]
fn jitter_only_lengthens_and_by_a_tenth_at_most() {
    for _ in 0..1000 {
        let wait = lengthened(HOUR);
        assert!((HOUR..=HOUR + HOUR / 10).contains(&wait), "{wait:?}");
    }
}

#[test]
fn security_097_metadata_must_be_the_issuers_own_and_keys_of_its_origin() {
    let ok = |document: &str, issuer: &str| jwks_uri(document.as_bytes(), issuer, None);
    let github = r#"{"issuer":"https://ci.example","jwks_uri":"https://ci.example/keys","claims_supported":["sub"]}"#;
    assert_eq!(ok(github, "https://ci.example").unwrap(), "https://ci.example/keys");
    for (document, issuer, text) in [
        (github, "https://ci.example/", "names the issuer"),
        (github, "https://CI.example", "names the issuer"),
        (r#"{"issuer":"https://ci.example"}"#, "https://ci.example", "no text `jwks_uri`"),
        (
            r#"{"issuer":"https://ci.example","issuer":"https://ci.example","jwks_uri":"https://ci.example/"}"#,
            "https://ci.example",
            "a member stands twice",
        ),
        ("<html>", "https://ci.example", "not an issuer's metadata"),
    ] {
        let why = ok(document, issuer).unwrap_err();
        assert!(why.contains(text), "{why}");
    }
    for other in [
        "https://evil.example/keys",
        "http://ci.example/keys",
        "https://ci.example:8443/keys",
        "https://ci.example@evil.example/keys",
        "https://ci.example.evil.example/keys",
        "//ci.example/keys",
        "/keys",
        "data:application/json,{}",
    ] {
        let document = serde_json::json!({ "issuer": "https://ci.example", "jwks_uri": other }).to_string();
        let why = ok(&document, "https://ci.example").unwrap_err();
        assert!(why.contains("another origin"), "{other}: {why}");
    }
}

/// A loopback issuer: discovery under its own URL, keys where `jwks_uri` says.
async fn serve(jwks: String, foreign: bool) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let keys = if foreign { "https://elsewhere.example" } else { &url };
    let discovery = serde_json::json!({ "issuer": url, "jwks_uri": format!("{keys}/keys") }).to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let (status, body) = match request[..length].split(|byte| *byte == b' ').nth(1) {
                Some(b"/.well-known/openid-configuration") => ("200 OK", discovery.as_str()),
                Some(b"/keys") => ("200 OK", jwks.as_str()),
                _ => ("404 Not Found", ""),
            };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn keys_come_over_the_network_from_the_issuers_own_origin() {
    let signer = crate::keys::signing::Signer::ephemeral();
    let jwks = signer.jwks(UnixSeconds(NOW)).to_string();
    let one = |name: &str, url: String, development| IssuerConfig { url, development, ..issuer(name) };
    let good = serve(jwks.clone(), false).await;
    let issuers = vec![
        one("good", good.clone(), true),
        one("strict", good.replace("127.0.0.1", "localhost"), false),
        one("foreign", serve(jwks, true).await, true),
        one("broken", serve("<html>".to_owned(), false).await, true),
    ];
    let clock = Arc::new(HeldClock(AtomicI64::new(NOW)));
    let cache = KeyCache::new(issuers, Client::new().unwrap(), clock, SLOW);
    cache.warm().await;
    let table = cache.table();
    let kid = signer.list(UnixSeconds(NOW))[0].kid.clone();
    assert_eq!(table.get(&good).unwrap().keys.keys().collect::<Vec<_>>(), [&kid], "the permitted algorithm alone");
    let health = cache.health();
    for (name, text) in
        [("strict", "plain HTTP is not used"), ("foreign", "another origin"), ("broken", "not a JWK set")]
    {
        let error = health[name].last_error.as_deref().unwrap_or("none");
        assert!(error.contains(text), "{name}: {error}");
        assert_eq!(health[name].keys, 0);
    }
}

const EXPIRES: i64 = NOW + 10 * 86400;

fn pinned(file: &std::path::Path) -> IssuerConfig {
    let pin = Pin { file: file.to_owned(), expires: UnixSeconds(EXPIRES), warn_before_seconds: 86400 };
    IssuerConfig { pin: Some(pin), ..issuer("a") }
}

/// Puts this set into the file, as only its owner may.
fn put(file: &std::path::Path, kids: &[&str]) {
    std::fs::write(file, document(kids)).unwrap();
    mode(file, 0o644);
}

fn mode(file: &std::path::Path, mode: u32) {
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn state(room: &Room) -> KeyState {
    room.cache.health()["a"].state
}

#[tokio::test]
async fn pinned_keys_come_from_their_file_alone_and_a_bad_file_takes_nothing_away() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("jwks.json");
    put(&file, &["k1"]);
    let room = Room::new(&[Answer::Kids(&["network"])], 9, NO_FLOOR);
    room.cache.replace(vec![pinned(&file)]);
    room.cache.warm().await;
    assert_eq!((room.kids(), room.valid_until()), (vec!["k1".to_owned()], EXPIRES - 1));
    assert_eq!(state(&room), KeyState::Ok);

    let bad: [(&str, &dyn Fn()); 6] = [
        ("cannot be read", &|| std::fs::remove_file(&file).unwrap()),
        ("not a JWK set", &|| std::fs::write(&file, "{").unwrap()),
        ("holds no key that can be used", &|| std::fs::write(&file, "{\"keys\":[]}").unwrap()),
        ("longer than", &|| std::fs::write(&file, " ".repeat(300_000)).unwrap()),
        ("chmod go-w", &|| {
            put(&file, &["forged"]);
            mode(&file, 0o664);
        }),
        ("no regular file", &|| {
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
        }),
    ];
    for (at, (why, spoil)) in bad.into_iter().enumerate() {
        spoil();
        let error = room.refresh().await.unwrap_err();
        assert!(error.contains(why) && error.contains("jwks.json"), "{error}");
        assert_eq!((room.kids(), room.valid_until()), (vec!["k1".to_owned()], EXPIRES - 1), "{why}");
        let health = room.cache.health()["a"].clone();
        assert_eq!((health.state, health.failures), (KeyState::Stale, at as u64 + 1));
    }
    std::fs::remove_dir(&file).unwrap();
    put(&file, &["k2"]);
    room.refresh().await.unwrap();
    assert_eq!((room.kids(), state(&room)), (vec!["k2".to_owned()], KeyState::Ok));
    assert_eq!(room.fetches(), 0, "the issuer was never asked");
}

#[tokio::test]
async fn the_end_of_a_pin_is_told_before_and_is_an_end() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("jwks.json");
    put(&file, &["k1"]);
    let room = Room::new(&[Answer::Kids(&["network"])], 9, NO_FLOOR);
    room.cache.replace(vec![pinned(&file)]);
    let at = async |now: i64| {
        room.clock.0.store(now, Ordering::SeqCst);
        let refreshed = room.refresh().await;
        let health = room.cache.health()["a"].clone();
        (refreshed, health.state, health.warning.unwrap_or_default())
    };
    assert_eq!(at(EXPIRES - 86401).await, (Ok(()), KeyState::Ok, String::new()));
    let (refreshed, state, warning) = at(EXPIRES - 86400).await;
    assert_eq!((refreshed, state), (Ok(()), KeyState::Expiring));
    assert!(warning.contains("expire on 2027-01-25") && warning.contains("jwks.json"), "{warning}");
    assert_eq!(at(EXPIRES - 1).await.1, KeyState::Expiring);
    let (refreshed, state, warning) = at(EXPIRES).await;
    assert_eq!((refreshed, state), (Err(warning.clone()), KeyState::Down));
    assert!(warning.contains("expired on 2027-01-25"), "{warning}");
    assert_eq!(room.valid_until(), EXPIRES - 1, "no table believes them");

    // A later day mends it, by the reload that brings it.
    let mut later = pinned(&file);
    later.pin.as_mut().unwrap().expires = UnixSeconds(EXPIRES + 86400 * 9);
    room.cache.replace(vec![later]);
    assert_eq!(room.valid_until(), EXPIRES + 86400 * 9 - 1);
    assert_eq!(at(EXPIRES).await.1, KeyState::Ok);
    assert_eq!(room.fetches(), 0);
}

#[tokio::test]
async fn a_reload_reads_pinned_files_again_and_keeps_no_keys_of_another_place() {
    let home = tempfile::tempdir().unwrap();
    let (file, other) = (home.path().join("a.json"), home.path().join("b.json"));
    put(&file, &["k1"]);
    put(&other, &["k3"]);
    let room = Room::new(&[Answer::Kids(&["network"])], 9, SLOW);
    room.cache.warm().await;
    room.cache.replace(vec![pinned(&file)]);
    assert!(room.kids().is_empty(), "what the network said is not pinned");
    room.refresh().await.unwrap();
    put(&file, &["k2"]);
    room.refresh().await.unwrap();
    assert_eq!(room.kids(), ["k1"], "within the floor nothing is read again, whoever asks");
    room.cache.replace(vec![pinned(&file)]);
    assert_eq!(room.kids(), ["k1"], "until it is read");
    room.refresh().await.unwrap();
    assert_eq!(room.kids(), ["k2"]);
    room.cache.replace(vec![pinned(&other)]);
    assert!(room.kids().is_empty());
    room.cache.replace(vec![issuer("a")]);
    assert!(room.kids().is_empty());
    assert_eq!(room.fetches(), 1, "the first");
}

/// The core's `verify` judges by the cut; here it is that a reload puts it in place at once and asks nobody.
#[tokio::test]
async fn security_096_a_reload_cuts_off_at_once_and_a_disabled_issuer_is_never_asked() {
    let room = Room::new(&[Answer::Kids(&["k1", "k2"])], 9, NO_FLOOR);
    room.cache.warm().await;
    let cut = |kids: &[&str], disabled| IssuerConfig {
        cut: Cut { disabled, kids: kids.iter().map(|kid| (*kid).to_owned()).collect() },
        ..issuer("a")
    };
    room.cache.replace(vec![cut(&["k1"], false)]);
    let held = room.cache.table().get("https://a.example").unwrap().cut.clone();
    assert_eq!(held, cut(&["k1"], false).cut);
    assert_eq!(room.kids(), ["k1", "k2"], "the others go on");
    assert_eq!(room.cache.health()["a"].denied_kids, ["k1"]);
    assert_eq!(room.fetches(), 1);

    room.cache.replace(vec![cut(&[], true)]);
    assert!(room.cache.table().get("https://a.example").unwrap().cut.disabled);
    assert_eq!((room.kids().len(), state(&room)), (0, KeyState::Disabled));
    room.cache.warm().await;
    room.refresh().await.unwrap();
    assert!(room.cache.inner.due(Instant::now()).0.is_empty(), "the background leaves it alone too");
    assert_eq!(room.fetches(), 1);

    // What was withdrawn meanwhile must not come back with it.
    room.cache.replace(vec![issuer("a")]);
    assert_eq!((room.kids().len(), state(&room)), (0, KeyState::Down));
    room.refresh().await.unwrap();
    assert_eq!((room.fetches(), state(&room)), (2, KeyState::Ok));
}

#[tokio::test]
async fn an_issuer_s_state_is_told_with_its_age_failures_and_ignored_keys() {
    let answers = [Answer::Kids(&["k1"]), Answer::Down, Answer::HalfUsable, Answer::Down];
    let room = Room::new(&answers, 9, NO_FLOOR);
    let health = || room.cache.health()["a"].clone();
    assert_eq!((health().state, health().believed_until), (KeyState::Down, None));
    room.refresh().await.unwrap();
    assert_eq!((health().state, health().believed_until), (KeyState::Ok, Some(UnixSeconds(NOW + 86400))));
    room.refresh().await.unwrap_err();
    assert_eq!((health().state, health().failures), (KeyState::Stale, 1));
    room.refresh().await.unwrap();
    assert_eq!((health().state, health().keys), (KeyState::Ok, 1), "one bad key does not spoil a set");
    assert_eq!(health().ignored, [("k".to_owned(), "too short".to_owned())]);
    room.refresh().await.unwrap_err();
    assert_eq!(health().ignored.len(), 1, "a failure changes nothing about the set that is held");
    room.clock.0.store(NOW + 86400, Ordering::SeqCst);
    assert_eq!(state(&room), KeyState::Stale);
    room.clock.0.store(NOW + 86401, Ordering::SeqCst);
    assert_eq!((state(&room), health().failures), (KeyState::Down, 2));
}

#[tokio::test]
async fn a_failure_that_a_caller_met_is_mended_by_the_background() {
    let times = KeyTimes { floor: Duration::from_millis(1), interval: Duration::from_millis(20), keep: HOUR };
    let room = Room::new(&[Answer::Kids(&["k1"]), Answer::Down, Answer::Kids(&["k2"])], 9, times);
    let background = room.cache.spawn_refresh();
    while room.kids() != ["k2"] {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    background.abort();

    // Its own interval goes before the common one.
    let room = Room::new(&[Answer::Kids(&["k1"])], 9, SLOW);
    room.cache.replace(vec![IssuerConfig { refresh: Some(HOUR / 60), ..issuer("a") }]);
    room.cache.warm().await;
    let after = Instant::now();
    let due_in = |seconds| room.cache.inner.due(after + Duration::from_secs(seconds)).0.len();
    assert_eq!((due_in(50), due_in(60)), (0, 1));
}

#[test]
fn keys_may_stand_at_one_other_origin_that_the_configuration_names() {
    let document = |keys: &str| serde_json::json!({ "issuer": "https://ci.example", "jwks_uri": keys }).to_string();
    let of = |keys: &str| jwks_uri(document(keys).as_bytes(), "https://ci.example", Some("https://keys.example"));
    assert_eq!(of("https://keys.example/v3/certs").unwrap(), "https://keys.example/v3/certs");
    assert_eq!(of("https://ci.example/keys").unwrap(), "https://ci.example/keys");
    for other in ["http://keys.example/", "https://keys.example:8443/", "https://a.keys.example/", "data:,{}", "/keys"]
    {
        assert!(of(other).unwrap_err().contains("`jwks_origin`"), "{other}");
    }
    let deep = "[".repeat(100_000);
    let nested = format!("{{\"issuer\":\"https://ci.example\",\"jwks_uri\":\"https://ci.example/k\",\"x\":{deep}");
    assert!(jwks_uri(nested.as_bytes(), "https://ci.example", None).is_err(), "and the stack holds");
}
