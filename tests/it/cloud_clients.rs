//! AWS clients that nobody here wrote get their keys by the client commands, and may do what those keys may.

use crate::{BINARY, cloud_aws};
use claimbound_test_support::{issuer::Issuer, tools::Ministack};

#[tokio::test]
async fn boto3_asks_the_credential_process_and_may_do_what_the_session_may() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, _) = cloud_aws::assuming(&aws, &issuer).await;
    let request = issuer.run(&issuer.job().environment("staging"));
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    let profile = format!(
        "[profile payments]\nregion = eu-west-1\ncredential_process = {BINARY} credential-process --url {} --role payments-deploy\n",
        broker.audience()
    );
    std::fs::write(&config, profile).unwrap();
    let state = home.path().join("state").display().to_string();
    let environment = [
        ("ACTIONS", cloud_aws::ACTIONS),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_PROFILE", "payments"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", &request.url),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &request.bearer),
        ("CLAIMBOUND_STATE_DIR", &state),
    ];
    let said = aws.boto3(&cloud_aws::script(), "{}", &environment).await;
    cloud_aws::assert_narrowed(&aws, &said).await;
    assert_eq!(issuer.given().len(), 1, "four clients of one process, and one exchange");
}
