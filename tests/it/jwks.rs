//! `claimbound jwks`: what it writes is what a broker takes, and what it compares is what a broker would use.

use crate::BINARY;
use claimbound_test_support::{
    command,
    config::BrokerConfig,
    issuer::Issuer,
    jwt::{Algorithm, Key},
    serve::Serve,
    trap::Trap,
};
use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;

/// A directory with the default configuration, in which `github` is this issuer.
fn home(issuer: &Issuer) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    BrokerConfig::new(issuer).write(home.path(), "127.0.0.1:0", "127.0.0.1:0");
    home
}

async fn jwks(home: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let exit = command::run(Path::new(BINARY), home.path(), &[&["jwks"], arguments].concat()).await;
    (exit.code, exit.stdout, exit.stderr)
}

fn read(home: &TempDir, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(home.path().join(file)).unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_fetched_is_the_usable_keys_and_fits_a_pin() {
    let issuer = Issuer::github();
    let home = home(&issuer);
    let (mut weak, mut private) = (issuer.key().jwk(), issuer.key().jwk());
    (weak["kid"], weak["use"]) = (json!("for-encryption"), json!("enc"));
    (private["kid"], private["d"]) = (json!("leaked"), json!("AAAA"));
    issuer.serve_keys(Serve::Json(json!({ "keys": [weak, issuer.key().jwk(), private] })));
    for name in ["github", issuer.url()] {
        let (code, stdout, stderr) = jwks(&home, &["fetch", "--issuer", name, "--out", "pinned.json"]).await;
        assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
        assert!(stderr.contains("wrote 1 key of") && stderr.contains("for-encryption: `use`"), "{stderr}");
        assert!(stderr.contains("leaked: has the private member"), "{stderr}");
        assert_eq!(read(&home, "pinned.json"), issuer.jwks());
        fs::write(home.path().join("pinned.json"), "old").unwrap();
    }
    let (code, stdout, _) = jwks(&home, &["fetch", "--issuer", "github"]).await;
    assert_eq!((code, serde_json::from_str::<Value>(&stdout).unwrap()), (Some(0), issuer.jwks()));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3, "nothing is left beside the file");

    // The configuration may already name the file that is not there yet.
    jwks(&home, &["fetch", "--issuer", "github", "--out", "pinned.json"]).await;
    let pin = |file: &str| format!("jwks = {{ file = \"{file}\", expires = 2999-12-31 }}");
    for (file, code) in [("missing.json", 2), ("pinned.json", 0)] {
        BrokerConfig::new(&issuer).network("github", &pin(file), true).write(home.path(), "127.0.0.1:0", "127.0.0.1:1");
        let check = ["serve", "--check", "--development"];
        let exit = command::run(Path::new(BINARY), home.path(), &check).await;
        assert_eq!(exit.code, Some(code), "{file}: {}", exit.stderr);
        let (fetched, _, stderr) = jwks(&home, &["fetch", "--issuer", "github"]).await;
        assert_eq!(fetched, Some(0), "{stderr}");
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_an_error_and_leave_the_old_file() {
    let (issuer, trap) = (Issuer::github(), Trap::new());
    let home = home(&issuer);
    fs::write(home.path().join("pinned.json"), "old").unwrap();
    for (serve, why) in [
        (Serve::Status(500), "answered 500"),
        (Serve::Redirect(trap.url()), "redirects are not followed"),
        (Serve::Json(json!({ "keys": [] })), "no key that can be used"),
        (Serve::Raw(b"{".to_vec()), "not a JWK set"),
        (Serve::Gzip { blanks: 0 }, "content encoding"),
    ] {
        issuer.serve_keys(serve);
        let (code, stdout, stderr) = jwks(&home, &["fetch", "--issuer", "github", "--out", "pinned.json"]).await;
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{why}");
        assert!(stderr.contains(why), "{stderr}");
        assert_eq!(fs::read_to_string(home.path().join("pinned.json")).unwrap(), "old");
    }
    issuer.serve_keys(Serve::Right);
    for (arguments, why) in [
        (["fetch", "--issuer", "gitlab", "--out", "x"], "no issuer `gitlab`; there are `github`"),
        (["fetch", "--issuer", "http://issuer.example", "--out", "x"], "write an `https` URL"),
        (["fetch", "--issuer", "https://10.0.0.1", "--out", "x"], "not a public address"),
        (["fetch", "--issuer", "github", "--out", "none/x"], "no directory `none`"),
        (["diff", "nowhere.json", "github", "--format", "json"], "no file `nowhere.json`"),
    ] {
        let (code, _, stderr) = jwks(&home, &arguments).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
}

#[tokio::test]
async fn a_comparison_names_what_comes_goes_and_changes() {
    let issuer = Issuer::github();
    let home = home(&issuer);
    let (stays, goes) = (issuer.key(), Key::generate(Algorithm::Rs256).with_kid("goes"));
    let (before, after) = (Key::generate(Algorithm::Rs256), Key::generate(Algorithm::Rs256));
    let (before, after) = (before.with_kid("changed"), after.with_kid("changed"));
    let comes = Key::generate(Algorithm::Rs256).with_kid("comes");
    let put = |file: &str, keys: &[Value]| {
        fs::write(home.path().join(file), json!({ "keys": keys }).to_string()).unwrap();
    };
    put("old.json", &[stays.jwk(), goes.jwk(), before.jwk()]);
    let of_another_kind = Key::generate(Algorithm::EdDsa).with_kid("ed").jwk();
    issuer.serve_keys(Serve::Json(json!({ "keys": [comes.jwk(), stays.jwk(), after.jwk(), of_another_kind] })));

    let (code, told, stderr) = jwks(&home, &["diff", "old.json", "github"]).await;
    assert_eq!(code, Some(1), "{stderr}");
    for line in [
        "changed  changed  RS256 2048 bits -> RS256 2048 bits, another key".to_owned(),
        "comes    comes  RS256 2048 bits".to_owned(),
        "goes     goes  RS256 2048 bits".to_owned(),
        format!("stays    {}  RS256 2048 bits", stays.kid()),
        "ignored  ed  after: `EdDSA` is not permitted for this issuer".to_owned(),
        "the keys differ".to_owned(),
    ] {
        assert!(told.lines().any(|told| told == line), "{line} in\n{told}");
    }
    let (code, told, _) = jwks(&home, &["diff", "old.json", "github", "--format", "json"]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["same"], told["keys"].as_array().unwrap().len()), (Some(1), &json!(false), 4));
    let rs256 = json!({ "algorithm": "RS256", "strength": "2048 bits" });
    assert!(
        told["keys"]
            .as_array()
            .unwrap()
            .contains(&json!({ "kid": "comes", "change": "comes", "before": null, "after": rs256 }))
    );
    assert_eq!(told["ignored"][0]["side"], "after");

    // Without a name on either side nothing is known of the issuer: every algorithm counts.
    let (code, told, _) = jwks(&home, &["diff", "old.json", issuer.url()]).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("comes    ed  EdDSA Ed25519"), "{told}");

    // A key that is ignored on one side alone is no difference: nobody would use it.
    let (code, _, _) = jwks(&home, &["fetch", "--issuer", "github", "--out", "new.json"]).await;
    assert_eq!(code, Some(0));
    let (code, told, stderr) = jwks(&home, &["diff", "new.json", "github"]).await;
    assert_eq!(code, Some(0), "{told}{stderr}");
    assert!(told.ends_with("the same keys\n"), "{told}");
}
