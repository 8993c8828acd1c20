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
    let why = Signer::open(directory, T0).err().expect("refused").to_string();
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
    let dates =
        |retires, gone| Dates { kid: String::new(), algorithm: Es256, published: 100, signs_from: 200, retires, gone };
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
    let signer = Signer::open(directory.path(), T0).unwrap();
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
    assert_eq!(states(&Signer::open(directory.path(), gone).unwrap(), gone), [Gone, Signing], "their kid is kept");
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
    let serve = Signer::open(directory.path(), T0).unwrap();
    let command = Signer::open(directory.path(), T0).unwrap();
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
    let signer = Signer::open(&path, T0).unwrap();
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
    Signer::open(&path, T0).unwrap();
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
    let signer = Signer::open(&path, T0).unwrap();
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
    let other = Signer::ephemeral();
    let stranger = other.keys.load()[0].pair.as_ref().unwrap().to_pkcs8().unwrap();
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
    let signer = Signer::open(path, T0).unwrap();
    assert_eq!(files(path).len(), 3);
    // After it: the last rename is made up for.
    let kid = signer.list(T0)[0].kid.clone();
    fs::rename(path.join(format!("{kid}.p8")), path.join(format!("{kid}.p8.new"))).unwrap();
    assert_eq!(states(&Signer::open(path, T0).unwrap(), T0), [Signing]);
    assert!(files(path).contains(&format!("{kid}.p8")));
}

#[test]
fn nothing_is_signed_when_no_key_signs() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::open(directory.path(), T0).unwrap();
    let why = signer.sign("JWT", Es256, &json!({}), T0.plus(-1)).unwrap_err().to_string();
    assert!(why.contains("no ES256 key signs"), "{why}");
}
