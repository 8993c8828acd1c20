use super::*;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

const T0: UnixSeconds = UnixSeconds(1_800_000_000);
const DAY: i64 = 86400;
use KeyState::{Gone, Published, Retiring, Signing};
use SigningAlgorithm::{Es256, Rs256};

fn bytes(text: &serde_json::Value) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

/// Verifies as a relying party does: by `kid`, with what is published at `now`.
fn verified(signer: &Signer, token: &Secret, now: UnixSeconds) -> Option<serde_json::Value> {
    let (message, signature) = token.reveal().rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let json =
        |part| -> serde_json::Value { serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let header = json(header);
    let jwks = signer.jwks(now);
    let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"])?;
    assert_eq!(key["alg"], header["alg"]);
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    match key["kty"].as_str().unwrap() {
        "EC" => {
            let point = [vec![4], bytes(&key["x"]), bytes(&key["y"])].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &signature).unwrap();
        }
        _ => RsaPublicKeyComponents { n: bytes(&key["n"]), e: bytes(&key["e"]) }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature)
            .unwrap(),
    }
    Some(json(payload))
}

fn states(signer: &Signer, now: UnixSeconds) -> Vec<KeyState> {
    signer.list(now).iter().filter(|key| key.algorithm == Es256).map(|key| key.state).collect()
}

fn files(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn refused(directory: &Path, text: &str) {
    let why = Signer::open(directory, None, T0).err().expect("refused").to_string();
    assert!(why.contains(text), "{why}");
}

#[test]
fn what_is_signed_verifies_under_the_published_keys() {
    let signer = Signer::ephemeral();
    for algorithm in SigningAlgorithm::ALL {
        let claims = json!({ "sub": "role:x", "exp": 5 });
        let token = signer.sign("JWT", algorithm, &claims, T0).unwrap();
        assert_eq!(verified(&signer, &token, T0), Some(claims));
        let header = BASE64_URL_SAFE_NO_PAD.decode(token.reveal().split('.').next().unwrap()).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        let kid = signer.list(T0).into_iter().find(|key| key.algorithm == algorithm).unwrap().kid;
        assert_eq!(header, json!({ "alg": algorithm.name(), "kid": kid, "typ": "JWT" }));
    }
}

#[test]
fn the_key_set_has_public_members_only() {
    let jwks = Signer::ephemeral().jwks(T0);
    let mut members: Vec<_> = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" "))
        .collect();
    members.sort();
    assert_eq!(members, ["alg crv kid kty use x y", "alg e kid kty n use"]);
    assert_eq!(jwks.as_object().unwrap().len(), 1);
}

#[test]
fn a_state_follows_from_the_dates_and_the_time() {
    let dates = |retires, gone| {
        let (kid, revoked) = (String::new(), None);
        Dates { kid, algorithm: Es256, published: 100, signs_from: 200, retires, gone, revoked }
    };
    let whole = dates(Some(300), Some(400));
    for (now, state) in [
        (0, Published),
        (199, Published),
        (200, Signing),
        (299, Signing),
        (300, Retiring),
        (399, Retiring),
        (400, Gone),
    ] {
        assert_eq!(whole.state(UnixSeconds(now)), state, "{now}");
    }
    assert_eq!(dates(None, None).state(UnixSeconds(i64::MAX)), Signing);
    let overtaken = dates(Some(150), Some(400));
    assert_eq!(overtaken.state(UnixSeconds(250)), Retiring, "a key that was overtaken never signs");
}

#[test]
fn a_rotation_goes_through_its_states_and_no_token_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::open(directory.path(), None, T0).unwrap();
    assert_eq!(states(&signer, T0), [Signing], "the first key signs at once");
    let made = signer.rotate(T0, false).unwrap();
    assert_eq!(
        made.iter().map(|key| (key.algorithm, key.state)).collect::<Vec<_>>(),
        [(Es256, Published), (Rs256, Published)]
    );
    let over = T0.plus(PUBLISH_AHEAD_SECONDS);
    let gone = over.plus(RETIRING_SECONDS);
    for (now, expected) in [
        (T0, [Signing, Published]),
        (over.plus(-1), [Signing, Published]),
        (over, [Retiring, Signing]),
        (gone.plus(-1), [Retiring, Signing]),
        (gone, [Gone, Signing]),
    ] {
        assert_eq!(states(&signer, now), expected, "{now:?}");
    }
    for algorithm in SigningAlgorithm::ALL {
        let claims = json!({ "n": 1 });
        let last = signer.sign("JWT", algorithm, &claims, over.plus(-1)).unwrap();
        let expires = over.plus(-1).plus(i64::from(CREDENTIAL_SECONDS_MAX));
        assert!(verified(&signer, &last, expires).is_some(), "the longest credential of the last moment");
        assert!(verified(&signer, &last, gone).is_none());
        let first = signer.sign("JWT", algorithm, &claims, over).unwrap();
        assert!(verified(&signer, &first, T0).is_some(), "published a day before it signs");
        assert!(verified(&signer, &first, gone).is_some());
    }
    assert_eq!(signer.jwks(over)["keys"].as_array().unwrap().len(), 4);
    assert_eq!(signer.jwks(gone)["keys"].as_array().unwrap().len(), 2);

    assert_eq!(files(directory.path()).len(), 5);
    signer.remove_gone(gone.plus(-1)).unwrap();
    assert_eq!(files(directory.path()).len(), 5);
    signer.remove_gone(gone).unwrap();
    assert_eq!(files(directory.path()).len(), 3, "the private files of gone keys are removed");
    assert_eq!(
        states(&Signer::open(directory.path(), None, gone).unwrap(), gone),
        [Gone, Signing],
        "their kid is kept"
    );
}

#[test]
fn at_once_overtakes_a_rotation_that_waits_and_plain_does_not() {
    let signer = Signer::ephemeral();
    signer.rotate(T0, false).unwrap();
    let why = signer.rotate(T0.plus(DAY - 1), false).unwrap_err().why;
    assert!(why.contains("under way") && why.contains("2027-01-16T08:00:00Z") && why.contains("--now"), "{why}");
    signer.rotate(T0.plus(60), true).unwrap();
    assert_eq!(states(&signer, T0.plus(60)), [Retiring, Retiring, Signing]);
    assert_eq!(states(&signer, T0.plus(60 + DAY)), [Retiring, Retiring, Signing], "the overtaken key never signs");
    let made = signer.rotate(T0.plus(2 * DAY), false).unwrap();
    assert_eq!(made.len(), 2);
}

#[test]
fn published_keys_have_a_limit() {
    let signer = Signer::ephemeral();
    let rotations = (0..99).take_while(|_| signer.rotate(T0, true).is_ok()).count();
    assert_eq!(rotations, PUBLISHED_KEYS_MAX / 2 - 1);
    assert_eq!(signer.jwks(T0)["keys"].as_array().unwrap().len(), PUBLISHED_KEYS_MAX);
    assert!(signer.rotate(T0.plus(RETIRING_SECONDS), true).is_ok(), "when old ones are gone there is room");
}

#[test]
fn a_reload_brings_another_process_s_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let serve = Signer::open(directory.path(), None, T0).unwrap();
    let command = Signer::open(directory.path(), None, T0).unwrap();
    command.rotate(T0, true).unwrap();
    assert_eq!(states(&serve, T0), [Signing]);
    serve.reload().unwrap();
    assert_eq!(states(&serve, T0), [Retiring, Signing]);
    let token = serve.sign("JWT", Es256, &json!({}), T0).unwrap();
    assert!(verified(&command, &token, T0).is_some());
    serve.rotate(T0.plus(1), true).unwrap();
    let late = command.rotate(T0.plus(2), true).unwrap();
    assert_eq!(states(&command, T0.plus(2)), [Retiring, Retiring, Retiring, Signing], "a rotation reads first");
    fs::remove_file(directory.path().join(format!("{}.p8", late[0].kid))).unwrap();
    serve.reload().unwrap_err();
    assert_eq!(states(&serve, T0.plus(1)), [Retiring, Retiring, Signing], "a bad directory keeps the last good ring");
}

#[test]
fn private_files_are_ours_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("keys");
    let signer = Signer::open(&path, None, T0).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in files(&path) {
        assert_eq!(mode(&path.join(&file)), 0o600, "{file}");
    }
    let kid = signer.list(T0)[0].kid.clone();
    let key = path.join(format!("{kid}.p8"));
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for bad in [0o640, 0o604, 0o620, 0o644, 0o660] {
        chmod(&key, bad);
        refused(&path, "chmod 600");
    }
    chmod(&key, 0o400);
    Signer::open(&path, None, T0).unwrap();
    chmod(&path.join("keys.json"), 0o602);
    refused(&path, "others can change `keys.json`");
    chmod(&path.join("keys.json"), 0o600);
    chmod(&path, 0o770);
    refused(&path, "chmod 700");
}

#[test]
fn a_directory_that_is_not_whole_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("keys");
    let signer = Signer::open(&path, None, T0).unwrap();
    let [ec, rsa] = [0, 1].map(|at| path.join(format!("{}.p8", signer.list(T0)[at].kid)));
    let list = path.join("keys.json");
    let good = fs::read(&list).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();

    let aside = parent.path().join("aside");
    fs::rename(&list, &aside).unwrap();
    refused(&path, "restore it");
    fs::rename(&aside, &list).unwrap();
    fs::rename(&rsa, &aside).unwrap();
    refused(&path, "is missing");
    fs::copy(&ec, &rsa).unwrap();
    refused(&path, "is not a private key for RS256");
    fs::rename(&aside, &rsa).unwrap();

    let kid = signer.list(T0)[0].kid.clone();
    for (bad, says) in [
        ("{".to_owned(), "cannot be read"),
        (text.replace("\"format\": 1", "\"format\": 2"), "has format 2"),
        (text.replace("\"signs_from\"", "\"extra\": 1, \"signs_from\""), "unknown field"),
        (text.replace(&kid, &"A".repeat(43)), "is missing"),
        (text.replace(&kid, "../../x"), "is no thumbprint"),
        (text.replace(&signer.list(T0)[1].kid, &kid), "twice"),
    ] {
        fs::write(&list, bad).unwrap();
        refused(&path, says);
    }
    fs::write(&list, good).unwrap();
    let stranger = pair::Pair::generate(Es256).unwrap().to_pkcs8().unwrap();
    fs::write(&ec, &*stranger).unwrap();
    refused(&path, "another key than its name says");
    refused(&list, "is not a directory");
}

#[test]
fn what_a_crash_leaves_is_put_right() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    // Before the list was written: the files were never anyone's.
    fs::write(path.join("abc.p8.new"), "half").unwrap();
    fs::write(path.join("keys.json.new"), "half").unwrap();
    let signer = Signer::open(path, None, T0).unwrap();
    assert_eq!(files(path).len(), 3);
    // After it: the last rename is made up for.
    let kid = signer.list(T0)[0].kid.clone();
    fs::rename(path.join(format!("{kid}.p8")), path.join(format!("{kid}.p8.new"))).unwrap();
    assert_eq!(states(&Signer::open(path, None, T0).unwrap(), T0), [Signing]);
    assert!(files(path).contains(&format!("{kid}.p8")));
}

#[test]
fn nothing_is_signed_when_no_key_signs() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::open(directory.path(), None, T0).unwrap();
    let why = signer.sign("JWT", Es256, &json!({}), T0.plus(-1)).unwrap_err().to_string();
    assert!(why.contains("no ES256 key signs"), "{why}");
}

#[test]
fn a_revoked_key_is_gone_at_once_and_something_signs_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::open(directory.path(), None, T0).unwrap();
    let kid = signer.list(T0)[0].kid.clone();
    let token = signer.sign("JWT", Es256, &json!({}), T0).unwrap();
    let now = T0.plus(60);
    let Revocation { key, made } = signer.revoke(&kid, None, now).unwrap();
    assert_eq!((key.state, key.revoked, key.gone), (Gone, Some(now), Some(now)));
    assert_eq!(made.as_ref().map(|made| (made.algorithm, made.state)), Some((Es256, Signing)));
    assert!(verified(&signer, &token, now).is_none() && signer.verify("JWT", token.reveal(), now).is_none());
    assert!(!files(directory.path()).contains(&format!("{kid}.p8")), "its private half is removed");
    let after = signer.sign("JWT", Es256, &json!({}), now).unwrap();
    assert!(verified(&signer, &after, now).is_some());
    let again = signer.revoke(&kid, None, now.plus(5)).unwrap();
    assert_eq!((again.key.revoked, again.made.is_none()), (Some(now), true), "the first time counts");
    let other = Signer::open(directory.path(), None, now).unwrap();
    assert_eq!(states(&other, now), [Gone, Signing]);

    // Another key signs already: none is made.
    let waiting = signer.rotate(now, true).unwrap()[0].kid.clone();
    let old = made.unwrap().kid;
    assert!(signer.revoke(&old, None, now.plus(1)).unwrap().made.is_none());
    assert!(verified(&signer, &signer.sign("JWT", Es256, &json!({}), now.plus(1)).unwrap(), now.plus(1)).is_some());
    // One that the ring never had.
    let why = signer.revoke(&"A".repeat(43), None, now).unwrap_err().why;
    assert!(why.contains("there is no key"), "{why}");
    signer.revoke("../../x", Some(Es256), now).unwrap_err();
    let lost = signer.revoke(&"A".repeat(43), Some(Es256), now.plus(1)).unwrap().key;
    assert_eq!((lost.state, lost.signs_from), (Gone, UnixSeconds(0)));
    assert_eq!(Signer::open(directory.path(), None, now).unwrap().list(now).len(), 6);
    assert_eq!(signer.list(now).iter().filter(|key| key.kid == waiting && key.state == Signing).count(), 1);
}

#[test]
fn keys_follow_one_another_when_their_time_has_come() {
    const EVERY: i64 = 30 * DAY;
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = [0, 1].map(|_| Signer::open(directory.path(), None, T0).unwrap());
    let due = T0.plus(EVERY - PUBLISH_AHEAD_SECONDS);
    assert_eq!(one.next_rotation(EVERY), Some(due));
    assert!(!one.rotate_when_due(due.plus(-1), EVERY).unwrap());
    assert!(one.rotate_when_due(due, EVERY).unwrap());
    assert!(!other.rotate_when_due(due, EVERY).unwrap(), "whoever shares the directory comes too late");
    assert_eq!(states(&other, due), [Signing, Published]);
    assert_eq!(states(&one, T0.plus(EVERY)), [Retiring, Signing]);
    assert_eq!(one.next_rotation(EVERY), Some(due.plus(EVERY)));
    assert!(!one.rotate_when_due(due.plus(EVERY - 1), EVERY).unwrap());
}

#[test]
fn signing_stops_and_goes_on() {
    let signer = Signer::ephemeral();
    signer.stop(Some("a foreign key".to_owned()));
    let why = signer.sign("JWT", Es256, &json!({}), T0).unwrap_err().why;
    assert!(why.contains("signing is stopped: a foreign key"), "{why}");
    signer.stop(None);
    signer.sign("JWT", Es256, &json!({}), T0).unwrap();
}

#[test]
fn sealed_keys_need_their_secret_and_a_wrong_one_changes_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("keys");
    let secret = |name: &str, text: &str| {
        let file = parent.path().join(name);
        fs::write(&file, text.repeat(4)).unwrap();
        Some(Place::File(file))
    };
    let (good, bad) = (secret("good", "0123456789abcdef"), secret("bad", "0123456789abcdeF"));
    let whole = || -> Vec<(String, Vec<u8>)> {
        files(&path).into_iter().map(|file| (file.clone(), fs::read(path.join(file)).unwrap())).collect()
    };
    let plain = Signer::open(&path, None, T0).unwrap();
    let token = plain.sign("JWT", Es256, &json!({}), T0).unwrap();

    let sealed = Signer::open(&path, good.clone(), T0).unwrap();
    assert_eq!(sealed.jwks(T0), plain.jwks(T0), "the same keys");
    assert!(verified(&sealed, &token, T0).is_some());
    let names = files(&path);
    assert_eq!(names.iter().filter(|name| name.ends_with(".sealed")).count(), 2, "{names:?}");
    assert_eq!(names.len(), 3, "nothing readable is left: {names:?}");

    let before = whole();
    let refused = |seal: Option<Place>| Signer::open(&path, seal, T0).err().expect("refused").to_string();
    assert!(refused(None).contains("is sealed"), "{}", refused(None));
    assert!(refused(bad.clone()).contains("does not open with this seal"), "{}", refused(bad.clone()));
    assert!(plain.rotate(T0, true).is_err() && plain.reload().is_err(), "a broker without the secret");
    assert_eq!(whole(), before);

    let made = sealed.rotate(T0, true).unwrap();
    assert!(files(&path).contains(&format!("{}.sealed", made[0].kid)), "new ones are sealed, too");
    Signer::open_existing(&path, good.clone()).unwrap();

    // A crash between the two names.
    let kid = made[0].kid.clone();
    fs::write(path.join(format!("{kid}.p8")), "whatever").unwrap();
    fs::rename(path.join(format!("{kid}.sealed")), path.join(format!("{kid}.sealed.new"))).unwrap();
    fs::set_permissions(path.join(format!("{kid}.p8")), fs::Permissions::from_mode(0o600)).unwrap();
    Signer::open(&path, good.clone(), T0).unwrap();
    assert!(!files(&path).contains(&format!("{kid}.p8")));

    // Another secret; half of it was done before.
    let halfway = whole();
    assert_eq!(Signer::seal(&path, bad.clone(), good.as_ref()).unwrap(), 4);
    assert!(Signer::open(&path, good.clone(), T0).is_err());
    for (name, content) in halfway.iter().filter(|(name, _)| name.starts_with(&kid)) {
        fs::write(path.join(name), content).unwrap();
    }
    assert_eq!(Signer::seal(&path, bad.clone(), good.as_ref()).unwrap(), 4);
    assert_eq!(Signer::open(&path, bad, T0).unwrap().list(T0).len(), 4);
    assert!(Signer::seal(&path, None, good.as_ref()).unwrap_err().why.contains("no secret to seal with"));

    let signer = Signer::open(&path, secret("bad", "0123456789abcdeF"), T0).unwrap();
    signer.remove_gone(T0.plus(RETIRING_SECONDS)).unwrap();
    assert_eq!(files(&path).iter().filter(|name| name.ends_with(".sealed")).count(), 2, "gone ones are removed");
}

#[test]
fn a_ring_that_was_read_before_a_change_is_not_taken_up_after_it() {
    let signer = Signer::ephemeral();
    let (now, kid) = (UnixSeconds(1_800_000_000), signer.list(UnixSeconds(1_800_000_000))[0].kid.clone());
    let read = signer.read_again().unwrap();
    signer.revoke(&kid, None, now).unwrap();
    signer.take_up(read);
    let revoked = |signer: &Signer| signer.list(now).iter().any(|key| key.kid == kid && key.revoked.is_some());
    assert!(revoked(&signer));
    signer.reload().unwrap();
    assert!(revoked(&signer));
}
