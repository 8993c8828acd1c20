//! A decision looks at the mappings that pin the job's repository. Those for all of an owner's are looked at for each of
//! its jobs, one after the other.

use crate::{
    diag::Diagnostic,
    mapping::{IssuerId, MappingSet, codes},
};

/// Most mappings for all repositories of one owner that need no second thought.
const OWNER_MAPPINGS_MAX: usize = 500;

pub(super) fn of_an_owner(set: &MappingSet, found: &mut Vec<Diagnostic>) {
    for (number, issuer) in (0..).map(IssuerId).zip(&set.issuers) {
        let counted = issuer.owners.iter().map(|(name, id)| (set.index().for_every_job_of(number, id), Some(name)));
        let without_owners = issuer.owners.is_empty().then(|| (set.index().for_every_job_of(number, ""), None));
        let Some((count, owner)) = counted.chain(without_owners).max_by_key(|(count, _)| *count) else { continue };
        if count <= OWNER_MAPPINGS_MAX {
            continue;
        }
        let whose = match owner {
            Some(owner) => format!("each job of `{owner}` at issuer `{}`", issuer.name),
            None => format!("each job of issuer `{}`", issuer.name),
        };
        let message = format!(
            "{count} mappings are compared with {whose}, because they pin no repository: more than {OWNER_MAPPINGS_MAX} \
             make decisions slow"
        );
        let help = "name repositories with their ids, or give several roles by one mapping";
        found.push(Diagnostic::error(codes::CROWD, issuer.span.clone(), message, help).warning());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::*, mapping::Test, workload::Claim};

    #[test]
    fn mappings_for_a_whole_owner_are_counted_and_those_for_a_repository_are_not() {
        let owner = || {
            condition(Claim::RepositoryOwner, Test::Owner([("acme".to_owned(), "65".to_owned())].into_iter().collect()))
        };
        let told = |owned: usize| {
            let mut builder = Builder::new();
            for at in 0..owned {
                builder = builder.mapping(&format!("owned-{at}"), "r", [owner(), text(Claim::Branch, &["x"])]);
            }
            for at in 0..OWNER_MAPPINGS_MAX {
                let id = at.to_string();
                builder = builder.mapping(&format!("pinned-{at}"), "r", [owner(), repositories(&[("acme/x", &id)])]);
            }
            let mut found = Vec::new();
            of_an_owner(&builder.mapping("open", "r", [text(Claim::Branch, &["y"])]).build(), &mut found);
            found.into_iter().map(|finding| finding.message).collect::<Vec<_>>()
        };
        assert_eq!(told(OWNER_MAPPINGS_MAX - 1), [""; 0]);
        let found = told(OWNER_MAPPINGS_MAX);
        assert!(
            found.len() == 1 && found[0].starts_with("501 mappings are compared with each job of `acme`"),
            "{found:?}"
        );
    }
}
