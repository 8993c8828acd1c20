//! `claimbound kube`: a token for a cluster, as Kubernetes clients ask a program for one.

use super::{JobArgs, jwt::jwt, login::put, run, variable};
use crate::{
    client::{deliver::moment, failure::Failure, text::plain},
    secret::Secret,
};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

/// The versions of the protocol that Kubernetes clients speak; in what is used here they are alike.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// Print a token as Kubernetes clients ask for one
///
/// For `exec` in a kubeconfig: the JWT of a role, for clusters that take the broker's tokens. It is asked for once and kept, in a file that
/// nobody else can read, until 16 minutes or a third of its life are left, and clients are told to ask again then. `claimbound logout` ends
/// what was asked for. Exit code 0: done; 2: usage; 3: refused; 4: the broker or the CI system cannot be asked; 5: a person has
/// to answer for the role, or has said no.
#[derive(Args, Debug)]
#[command(after_help = "Example, in a kubeconfig:
  users:
  - name: deploy
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: claimbound
        args: [kube, --url, https://claimbound.example.com, --role, payments-cluster]
        interactiveMode: Never")]
pub struct KubeArgs {
    #[command(flatten)]
    job: JobArgs,
}

/// Runs the command.
pub fn kube(args: KubeArgs) -> Result<u8> {
    run(async || {
        let version = version(variable("KUBERNETES_EXEC_INFO").as_deref())?;
        let (token, kept) = jwt(&args.job, "kube").await?;
        let status = json!({ "token": token.reveal(), "expirationTimestamp": moment(kept.renewed()) });
        let said = json!({ "apiVersion": version, "kind": "ExecCredential", "status": status });
        put(&Secret::new(format!("{said}\n")))
    })
}

/// The one that the client asks in; it takes no other.
fn version(info: Option<&str>) -> Result<&'static str, Failure> {
    let Some(info) = info else { return Ok(VERSIONS[0]) };
    let info: Value = serde_json::from_str(info).unwrap_or_default();
    let asked = info["apiVersion"].as_str().unwrap_or_default();
    VERSIONS.into_iter().find(|version| *version == asked).ok_or_else(|| {
        let text =
            format!("This client asks in `{}`; write `apiVersion: {}` in the kubeconfig", plain(asked), VERSIONS[0]);
        Failure::usage("exec_info", text)
    })
}
