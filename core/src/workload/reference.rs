//! Claims that name a workflow file: `acme/ci/.github/workflows/deploy.yml@refs/heads/main`, taken apart without
//! guessing. Whoever may push chooses file and branch names, `@` and all, so a text that reads two ways is refused.

use super::data::WorkflowShape;

/// Repository, file, and a full ref or a commit; `None` when `text` is not of this shape, or in two ways.
pub(super) fn split(shape: WorkflowShape, text: &str) -> Option<[&str; 3]> {
    let (repository, rest) = match shape {
        WorkflowShape::RepositoryFile => {
            let slash = text.match_indices('/').nth(1)?.0;
            (&text[..slash], &text[slash + 1..])
        }
        WorkflowShape::HostRepositoryFile => {
            let (_host, rest) = text.split_once('/')?;
            rest.split_once("//")?
        }
    };
    let mut ends = rest.match_indices("@refs/").map(|(at, _)| at);
    let at = match (ends.next(), ends.next()) {
        (Some(at), None) => at,
        (Some(_), Some(_)) => return None,
        (None, _) => rest.rfind('@').filter(|at| is_commit(&rest[at + 1..]))?,
    };
    let (file, reference) = (&rest[..at], &rest[at + 1..]);
    let whole = |path: &str| path.split('/').all(|segment| !segment.is_empty());
    (repository.contains('/') && whole(repository) && whole(file) && whole(reference))
        .then_some([repository, file, reference])
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::{WorkflowShape::*, *};

    #[test]
    fn workflow_claims_come_apart_in_one_way_or_not_at_all() {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        let at_sha = format!("acme/ci/.github/workflows/d.yml@{sha}");
        for (shape, text, expected) in [
            (
                RepositoryFile,
                "acme/ci/.github/workflows/d.yml@refs/heads/main",
                Some(("acme/ci", ".github/workflows/d.yml", "refs/heads/main")),
            ),
            (RepositoryFile, &at_sha, Some(("acme/ci", ".github/workflows/d.yml", sha))),
            (
                RepositoryFile,
                "acme/ci/dynamic/scan/codeql@refs/heads/main",
                Some(("acme/ci", "dynamic/scan/codeql", "refs/heads/main")),
            ),
            (
                RepositoryFile,
                "acme/ci/.github/workflows/ci.yml@evil.yml@refs/heads/main",
                Some(("acme/ci", ".github/workflows/ci.yml@evil.yml", "refs/heads/main")),
            ),
            (RepositoryFile, "acme/ci/w/d.yml@refs/heads/a@b", Some(("acme/ci", "w/d.yml", "refs/heads/a@b"))),
            (RepositoryFile, "acme/ci/w/d.yml@refs/heads/x@refs/heads/main", None),
            (RepositoryFile, "acme/ci/w/d.yml@main", None),
            (RepositoryFile, "acme/ci/w/d.yml@", None),
            (RepositoryFile, "acme/ci/w/d.yml", None),
            (RepositoryFile, "acme/ci@refs/heads/main", None),
            (RepositoryFile, "acme//w/d.yml@refs/heads/main", None),
            (RepositoryFile, "", None),
            (
                HostRepositoryFile,
                "gitlab.com/a/b/c//.gitlab-ci.yml@refs/heads/main",
                Some(("a/b/c", ".gitlab-ci.yml", "refs/heads/main")),
            ),
            (
                HostRepositoryFile,
                "gitlab.com/a/b//ci/x@y.yml@refs/tags/v1",
                Some(("a/b", "ci/x@y.yml", "refs/tags/v1")),
            ),
            (HostRepositoryFile, "https://evil.example/ci.yml", None),
            (HostRepositoryFile, "gitlab.com/a/b/.gitlab-ci.yml@refs/heads/main", None),
        ] {
            assert_eq!(split(shape, text), expected.map(|(repository, file, at)| [repository, file, at]), "{text}");
        }
    }
}
