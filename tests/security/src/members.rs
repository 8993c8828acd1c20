//! A JSON object in the making: names, and values as the text that will stand in the token.

use serde_json::Value;
use std::collections::BTreeMap;

/// Members in name order, each value as JSON text.
#[derive(Clone)]
pub struct Members(BTreeMap<String, String>);

impl Members {
    pub fn of(object: &Value) -> Self {
        let members = object.as_object().expect("an object");
        Self(members.iter().map(|(name, value)| (name.clone(), value.to_string())).collect())
    }

    /// Puts a value in, or (`absent`) takes the member out.
    pub fn set(&mut self, name: &str, json: String) {
        match json.as_str() {
            "absent" => self.0.remove(name),
            _ => self.0.insert(name.to_owned(), json),
        };
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Without the braces.
    pub fn inside(&self) -> String {
        let written = self.0.iter().map(|(name, json)| format!("{}:{json}", Value::from(name.as_str())));
        written.collect::<Vec<_>>().join(",")
    }

    pub fn text(&self) -> String {
        format!("{{{}}}", self.inside())
    }
}
