//! A real browser: Chromium of the distribution, driven by a script with playwright-core.

use crate::{
    command::{command, finish},
    tools::Tools,
};
use serde_json::Value;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// As distributions call it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome-stable"];

/// Where the program is.
///
/// # Panics
/// If it is not installed.
fn program() -> PathBuf {
    let paths = env::var_os("PATH").unwrap_or_default();
    let of = |path: PathBuf| NAMES.map(|name| path.join(name)).into_iter().find(|file| file.is_file());
    let found = env::split_paths(&paths).find_map(of);
    found.expect(
        "Chromium is on `PATH`: `apt-get install --no-install-recommends chromium fonts-dejavu-core` installs it",
    )
}

/// Where screenshots are kept, for people to look at: `target/pages`.
pub fn pictures() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let pictures = target.join("pages");
    fs::create_dir_all(&pictures).expect("a directory for pictures can be made");
    pictures
}

/// Runs a script of `tests/clients` to its end; what it says as JSON.
///
/// # Panics
/// If Chromium is not installed, or the script fails.
pub async fn drive(script: &str, settings: &Value) -> Value {
    let home = tempfile::tempdir().expect("a directory can be made");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients").join(script);
    let mut node = command(&Tools::young_node(), home.path());
    node.arg(script)
        .env("CLAIMBOUND_TEST_TOOLS", Tools::directory())
        .env("CHROMIUM", program())
        .env("PICTURES", pictures())
        .env("SETTINGS", settings.to_string());
    let exit = finish(&mut node).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", exit.stdout, exit.stderr))
}
