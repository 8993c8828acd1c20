//! Where names and their ids stand in a folder's files: found in the tree of TOML, comments and layout kept, since a folder
//! whose names have no ids does not load.

use super::forge::What;
use claimbound_core::mapping::FileKind;
use std::collections::BTreeMap;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// A name in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// Of whose tokens; empty: the file does not say it.
    pub issuer: String,
    pub what: What,
    pub name: String,
    /// Beside it.
    pub id: Option<String>,
}

/// What to put beside a name; `None`: leave it.
pub type Act<'a> = &'a mut dyn FnMut(&Name) -> Option<String>;

/// `[issuer.*]` of policy.toml: name → profile and URL.
pub fn issuers(policy: &DocumentMut) -> BTreeMap<String, (String, String)> {
    let Some(issuers) = policy.get("issuer").and_then(Item::as_table_like) else { return BTreeMap::new() };
    let text = |item: &Item, key: &str| item.get(key).and_then(Item::as_str).unwrap_or_default().to_owned();
    issuers.iter().map(|(name, item)| (name.to_owned(), (text(item, "profile"), text(item, "url")))).collect()
}

/// Shows every name of a file that has or should have an id, and puts ids beside those for which `act` gives one.
pub fn visit(document: &mut DocumentMut, kind: FileKind, only_issuer: Option<&str>, act: Act<'_>) {
    match kind {
        FileKind::Policy => owners(document, act),
        FileKind::Roles => requirements(document, only_issuer, act),
        FileKind::Team => team(document, only_issuer, act),
        FileKind::Tests => {}
    }
}

fn owners(document: &mut DocumentMut, act: Act<'_>) {
    let Some(issuers) = document.get_mut("issuer").and_then(Item::as_table_like_mut) else { return };
    for (issuer, item) in issuers.iter_mut() {
        let Some(owners) = item.get_mut("owners").and_then(Item::as_table_like_mut) else { continue };
        for (owner, id) in owners.iter_mut() {
            let Some(id) = id.as_value_mut() else { continue };
            let name = Name {
                issuer: issuer.get().to_owned(),
                what: What::Owner,
                name: owner.get().to_owned(),
                id: written(id).filter(|id| !id.is_empty()),
            };
            if let Some(new) = act(&name) {
                put(id, &new);
            }
        }
    }
}

fn requirements(document: &mut DocumentMut, only_issuer: Option<&str>, act: Act<'_>) {
    let Some(roles) = document.get_mut("role").and_then(Item::as_table_like_mut) else { return };
    for (_, role) in roles.iter_mut() {
        let issuers = role.get("issuers").and_then(Item::as_array);
        let issuer = match issuers.map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>()).as_deref() {
            Some([one]) => (*one).to_owned(),
            _ => only_issuer.unwrap_or_default().to_owned(),
        };
        let Some(require) = role.get_mut("require").and_then(Item::as_table_like_mut) else { continue };
        conditions(require, &issuer, act);
        for (of, below) in require.iter_mut() {
            // `[role.x.require.ISSUER]`; parts of a workflow have names without ids.
            let of = of.get().to_owned();
            if !matches!(of.as_str(), "repository" | "workflow" | "job_workflow")
                && let Some(below) = below.as_table_like_mut()
            {
                conditions(below, &of, act);
            }
        }
    }
}

fn team(document: &mut DocumentMut, only_issuer: Option<&str>, act: Act<'_>) {
    let text = |table: &dyn TableLike| table.get("issuer").and_then(Item::as_str).map(str::to_owned);
    let file = document.get("file").and_then(Item::as_table_like).and_then(text);
    let of_file = file.clone().or(only_issuer.map(str::to_owned)).unwrap_or_default();
    let mut of_sets = BTreeMap::new();
    for mapping in tables(document.get_mut("mapping")) {
        let issuer = text(mapping).unwrap_or_else(|| of_file.clone());
        if let Some(matching) = mapping.get_mut("match").and_then(Item::as_table_like_mut) {
            of_sets.extend(set_of(matching).map(|set| (set, issuer.clone())));
            conditions(matching, &issuer, act);
        }
        for any in tables(mapping.get_mut("any")) {
            of_sets.extend(set_of(any).map(|set| (set, issuer.clone())));
            conditions(any, &issuer, act);
        }
    }
    if let Some(matching) =
        document.get_mut("file").and_then(|file| file.get_mut("match")).and_then(Item::as_table_like_mut)
    {
        conditions(matching, &of_file, act);
    }
    let Some(sets) = document.get_mut("set").and_then(Item::as_table_like_mut) else { return };
    for (name, set) in sets.iter_mut() {
        let issuer = of_sets.get(name.get()).filter(|_| file.is_none()).cloned().unwrap_or_else(|| of_file.clone());
        match set.get_mut("repositories").and_then(Item::as_value_mut) {
            Some(Value::Array(list)) => members(list, &issuer, act),
            _ => continue,
        }
    }
}

fn set_of(table: &dyn TableLike) -> Option<String> {
    Some(table.get("repository")?.get("set")?.as_str()?.to_owned())
}

/// The tables of an array, however it is written.
fn tables(item: Option<&mut Item>) -> Vec<&mut dyn TableLike> {
    match item {
        Some(Item::ArrayOfTables(list)) => {
            list.iter_mut().map(|table: &mut Table| table as &mut dyn TableLike).collect()
        }
        Some(Item::Value(Value::Array(list))) => {
            list.iter_mut().filter_map(Value::as_inline_table_mut).map(|table| table as &mut dyn TableLike).collect()
        }
        _ => Vec::new(),
    }
}

/// The `repository` of a table of conditions, unless an id stands in a key of its own.
fn conditions(table: &mut dyn TableLike, issuer: &str, act: Act<'_>) {
    if table.contains_key("repository_id") {
        return;
    }
    match table.get_mut("repository") {
        Some(Item::Value(Value::Array(list))) => members(list, issuer, act),
        Some(Item::Value(value)) => member(value, issuer, act),
        Some(Item::Table(pair)) => beside(pair, issuer, act),
        _ => {}
    }
}

fn members(list: &mut Array, issuer: &str, act: Act<'_>) {
    for value in list.iter_mut() {
        member(value, issuer, act);
    }
}

/// `{ name, id }`, `{ name }`, or the bare name, which becomes a pair.
fn member(value: &mut Value, issuer: &str, act: Act<'_>) {
    match value {
        Value::InlineTable(pair) => beside(pair, issuer, act),
        Value::String(text) if !text.value().contains('*') => {
            let name = Name { issuer: issuer.to_owned(), what: What::Repository, name: text.value().clone(), id: None };
            if let Some(id) = act(&name) {
                let mut pair = InlineTable::new();
                pair.insert("name", name.name.into());
                pair.insert("id", number(&id));
                *pair.decor_mut() = text.decor().clone();
                *value = Value::InlineTable(pair);
            }
        }
        _ => {}
    }
}

fn beside(pair: &mut dyn TableLike, issuer: &str, act: Act<'_>) {
    let Some(name) = pair.get("name").and_then(Item::as_str) else { return };
    let id = pair.get("id").and_then(Item::as_value).and_then(written).filter(|id| !id.is_empty());
    let name = Name { issuer: issuer.to_owned(), what: What::Repository, name: name.to_owned(), id };
    let Some(id) = act(&name) else { return };
    match pair.get_mut("id").and_then(Item::as_value_mut) {
        Some(present) => put(present, &id),
        None => {
            // What stood before the closing brace stands there again.
            if let Some(Value::String(text)) = pair.get_mut("name").and_then(Item::as_value_mut) {
                text.decor_mut().set_suffix("");
            }
            let mut id = number(&id);
            *id.decor_mut() = toml_edit::Decor::new(" ", " ");
            pair.insert("id", Item::Value(id));
        }
    }
}

/// An id as text, however it is written.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::Integer(number) => Some(number.value().to_string()),
        Value::String(text) => Some(text.value().clone()),
        _ => None,
    }
}

fn number(id: &str) -> Value {
    id.parse::<i64>().map_or_else(|_| Value::from(id), Value::from)
}

fn put(value: &mut Value, id: &str) {
    let decor = value.decor().clone();
    *value = number(id);
    *value.decor_mut() = decor;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(kind: FileKind, text: &str) -> (Vec<String>, String) {
        let mut document: DocumentMut = text.parse().unwrap();
        let mut seen = Vec::new();
        visit(&mut document, kind, None, &mut |name| {
            seen.push(format!("{} {} {:?}", name.issuer, name.name, name.id));
            name.id.is_none().then(|| format!("{}", seen.len()))
        });
        (seen, document.to_string())
    }

    #[test]
    fn every_name_of_a_team_s_file_is_found_and_its_layout_kept() {
        let text = r#"# mine
[file]
issuer = "github" # whose
[file.match]
repository = { set = "s" }

[set.s]
repositories = [
  { name = "a/one" },            # first
  { name = "a/two", id = 7 },    # has one
  { id = "", name = "a/three" },
]

[[mapping]]
name = "m"
[mapping.match]
repository = "a/four" # bare
workflow = { file = "x" }
[[mapping.any]]
repository = ["a/five", { name = "a/six" }]

[[mapping]]
issuer = "gitlab"
[mapping.match]
repository = "a/none"
repository_id = 5
[[test]]
workload = { repository = "a/test" }
"#;
        let (seen, after) = pinned(FileKind::Team, text);
        assert_eq!(
            seen,
            [
                "github a/four None",
                "github a/five None",
                "github a/six None",
                "github a/one None",
                "github a/two Some(\"7\")",
                "github a/three None",
            ]
        );
        for line in [
            "  { name = \"a/one\", id = 4 },            # first",
            "  { name = \"a/two\", id = 7 },    # has one",
            "  { id = 6, name = \"a/three\" },",
            "repository = { name = \"a/four\", id = 1 } # bare",
            "repository = [{ name = \"a/five\", id = 2 }, { name = \"a/six\", id = 3 }]",
            "repository = \"a/none\"",
            "# mine",
        ] {
            assert!(after.contains(line), "{line}\n{after}");
        }
    }

    #[test]
    fn owners_and_what_roles_require_are_names_too() {
        let (seen, after) = pinned(FileKind::Policy, "[issuer.g]\nowners = { acme = \"\", b = 2 } # why\n");
        assert_eq!(seen, ["g acme None", "g b Some(\"2\")"]);
        assert_eq!(after, "[issuer.g]\nowners = { acme = 1, b = 2 } # why\n");
        let text = "[role.r]\nissuers = [\"g\"]\n[role.r.require]\nrepository = { name = \"a/b\" }\njob_workflow = { repository = \"a/c\" }\n[role.s.require.h]\nrepository = \"a/d\"\n";
        let (seen, after) = pinned(FileKind::Roles, text);
        assert_eq!(seen, ["g a/b None", "h a/d None"]);
        assert!(after.contains("{ name = \"a/b\", id = 1 }") && after.contains("{ repository = \"a/c\" }"), "{after}");
    }
}
