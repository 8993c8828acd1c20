//! temporary
use claimbound_core::time::UnixSeconds;
use serde_json::Value;
pub fn openid_configuration(_: &str) -> Value {
    Value::Null
}
pub fn authorization_server(_: &str, _: &str) -> Value {
    Value::Null
}
pub fn claimbound(_: &str, _: &str, _: UnixSeconds) -> Value {
    Value::Null
}
