//! What a job keeps between two of its commands: leases that are to be ended, files that are to go, a cache.
//!
//! It stands outside of the checkout, in a directory that nobody else can read. CI systems run the steps of a job in shells
//! that share no variables, so its name comes from what they do share: the user and the job.

use super::{failure::Failure, source::Environment};
use crate::secret::Secret;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use rustix::process::geteuid;
use serde_json::Value;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// What says which job this is; the first set that is whole counts.
const JOBS: [&[&str]; 9] = [
    &["GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB", "RUNNER_NAME"],
    &["CI_JOB_ID"],
    &["BUILDKITE_JOB_ID"],
    &["CIRCLE_WORKFLOW_JOB_ID"],
    &["BITBUCKET_STEP_UUID"],
    &["TFC_RUN_ID"],
    &["SEMAPHORE_JOB_ID"],
    // Of a machine that serves several builds; parallel branches of one build have an executor each.
    &["JENKINS_URL", "BUILD_TAG", "EXECUTOR_NUMBER"],
    &["BUILD_BUILDID", "SYSTEM_JOBID"],
];
const DIGEST_CHARS: usize = 16;
const FILE_BYTES_MAX: u64 = 256 * 1024;
const LEASE: &str = "lease-";
/// How the names of files end that are not whole yet.
const NEW: &str = ".new";
const RANDOM_BYTES: usize = 8;

/// The directory.
#[derive(Clone, Debug)]
pub struct Keep {
    directory: PathBuf,
}

impl Keep {
    /// Opens the job's directory, `given` or its own; makes it if it is not there.
    ///
    /// # Errors
    /// Others could read it, or it is somebody else's.
    pub fn open(given: Option<&Path>, env: Environment<'_>) -> Result<Self, Failure> {
        let directory = given.map_or_else(|| usual(env), Path::to_owned);
        let directory = std::path::absolute(&directory).map_err(|error| Failure::file("find", &directory, &error))?;
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let text = format!(
                    "cannot make `{}`: {error}. Name a directory that can be made or written to with `--state-dir` or \
                     `CLAIMBOUND_STATE_DIR`",
                    directory.display()
                );
                return Err(Failure::usage("state_dir", text));
            }
        }
        let found = fs::symlink_metadata(&directory).map_err(|error| Failure::file("read", &directory, &error))?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
            let text = format!(
                "`{}` is not a directory of yours that nobody else can read: `chmod 700` it, or name another with \
                 `--state-dir` or `CLAIMBOUND_STATE_DIR`",
                directory.display()
            );
            return Err(Failure::usage("state_dir", text));
        }
        Ok(Self { directory })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a lease down before it is used.
    ///
    /// # Errors
    /// Then it must not be used.
    pub fn remember(&self, lease: &Lease) -> Result<(), Failure> {
        write(&self.lease_path(&lease.lease_id), lease.to_json().to_string().as_bytes())
    }

    fn lease_path(&self, lease_id: &str) -> PathBuf {
        self.path(&format!("{LEASE}{}.json", name_of(&[lease_id])))
    }

    /// What was written down of this lease.
    pub fn lease(&self, lease_id: &str) -> Option<Lease> {
        Lease::of_json(&read(&self.lease_path(lease_id)).ok()??)
    }

    /// Nothing of this lease is to be ended any more. A file that stays is one that `logout` looks at again.
    pub fn forget(&self, lease_id: &str) {
        let _ = fs::remove_file(self.lease_path(lease_id));
    }

    /// This refresh token had its turn, and the next one, which is written down, ends the same.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn spent(&self, refresh: &Secret) -> Result<(), Failure> {
        for (_, mut lease) in self.leases()? {
            let before = lease.handles.len();
            lease.handles.retain(|handle| handle.0 != refresh.reveal());
            if lease.handles.len() < before {
                self.remember(&lease)?;
            }
        }
        Ok(())
    }

    /// Removes what runs that were killed had begun to write.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn sweep(&self) -> Result<(), Failure> {
        let begun = |path: &PathBuf| path.as_os_str().as_encoded_bytes().ends_with(NEW.as_bytes());
        self.files()?.iter().filter(|path| begun(path)).try_for_each(|path| remove(path))
    }

    /// Every file of the job's.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        let listed = fs::read_dir(&self.directory).map_err(|error| Failure::file("list", &self.directory, &error))?;
        Ok(listed.flatten().map(|entry| entry.path()).collect())
    }

    /// What was written down, oldest first, each with its file.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn leases(&self) -> Result<Vec<(PathBuf, Lease)>, Failure> {
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(LEASE) && !name.ends_with(NEW)
        };
        let mut leases: Vec<(PathBuf, Lease)> = self
            .files()?
            .into_iter()
            .filter(named)
            .filter_map(|path| Some((path.clone(), Lease::of_json(&read(&path).ok()??)?)))
            .collect();
        leases.sort_by_key(|(_, lease)| lease.at);
        Ok(leases)
    }

    /// The directory goes if nothing is left in it.
    pub fn tidy(&self) {
        // Somebody else's file in it is no reason to fail.
        let _ = fs::remove_dir(&self.directory);
    }
}

fn usual(env: Environment<'_>) -> PathBuf {
    let of = |names: &&[&str]| names.iter().map(|name| env(name)).collect::<Option<Vec<_>>>();
    let job = JOBS.iter().find_map(of).unwrap_or_default();
    let parts: Vec<&str> = job.iter().map(String::as_str).collect();
    let base = env("RUNNER_TEMP").or_else(|| env("TMPDIR")).unwrap_or_else(|| "/tmp".to_owned());
    Path::new(&base).join(format!("claimbound-{}-{}", geteuid().as_raw(), name_of(&parts)))
}

/// A name for these parts, fit for a file.
pub fn name_of(parts: &[&str]) -> String {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    let digest = digest(&SHA256, &text);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..DIGEST_CHARS].to_owned()
}

/// Removes a file of ours; it may be gone already.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::file("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Writes a file that nobody else can read, whole or not at all; never through a link that stands there.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // By chance: containers that share a directory have process ids in common.
    let mut random = [0; RANDOM_BYTES];
    rand::fill(&mut random).map_err(|_| Failure::usage("random", "The system gives no random bytes"))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{:016x}{NEW}", u64::from_ne_bytes(random)));
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let done = file.write_all(bytes).and_then(|()| fs::rename(&beside, path));
        if done.is_err() {
            fs::remove_file(&beside)?;
        }
        done
    };
    written().map_err(|error| Failure::file("write", path, &error))
}

/// The JSON of one of our files; none if it is not there, or not ours.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> io::Result<Option<Value>> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes).ok())
}

/// A lease that this job holds, and what was made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub broker_url: String,
    pub lease_id: String,
    /// Each ends something at the broker; secret.
    pub handles: Vec<Handle>,
    /// Unix seconds: when it was opened, and when its credential ends.
    pub at: i64,
    pub expires: i64,
    pub files: Vec<PathBuf>,
    pub variables: Vec<Variable>,
}

/// A lease handle or refresh token.
#[derive(Clone, PartialEq, Eq)]
pub struct Handle(pub String);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle(…)")
    }
}

/// A variable of the job that was set: what it held before, and the hash of what it was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub before: String,
    pub digest: String,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Variable({})", self.name)
    }
}

impl Lease {
    fn to_json(&self) -> Value {
        serde_json::json!({
            "broker_url": self.broker_url, "lease_id": self.lease_id, "at": self.at, "expires": self.expires,
            "handles": self.handles.iter().map(|handle| &handle.0).collect::<Vec<_>>(),
            "files": self.files.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "variables": self.variables.iter().map(|variable| [&variable.name, &variable.before, &variable.digest]).collect::<Vec<_>>(),
        })
    }

    fn of_json(json: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let all = |name: &str| json[name].as_array()?.iter().map(text).collect::<Option<Vec<_>>>();
        let variable = |parts: &Value| {
            Some(Variable { name: text(&parts[0])?, before: text(&parts[1])?, digest: text(&parts[2])? })
        };
        Some(Self {
            broker_url: text(&json["broker_url"])?,
            lease_id: text(&json["lease_id"])?,
            handles: all("handles")?.into_iter().map(Handle).collect(),
            at: json["at"].as_i64()?,
            expires: json["expires"].as_i64()?,
            files: all("files")?.into_iter().map(PathBuf::from).collect(),
            variables: json["variables"].as_array()?.iter().map(variable).collect::<Option<Vec<_>>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn what_is_written_down_is_read_again_and_nobody_else_can() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::open(Some(&folder.path().join("state")), &|_| None).unwrap();
        let lease = Lease {
            broker_url: "https://b.example".to_owned(),
            lease_id: "0192-l".to_owned(),
            handles: vec![Handle("cbl_handle".to_owned())],
            at: 7,
            expires: 907,
            files: vec!["/tmp/credentials".into()],
            variables: vec![Variable {
                name: "AWS_PROFILE".to_owned(),
                before: "a\nb".to_owned(),
                digest: "d".to_owned(),
            }],
        };
        keep.remember(&lease).unwrap();
        let kept = keep.leases().unwrap();
        assert_eq!(kept.iter().map(|(_, lease)| lease).collect::<Vec<_>>(), [&lease]);
        assert_eq!(fs::metadata(&kept[0].0).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{lease:?}").contains("cbl_"));
        // What a run that was killed has begun to write is no lease, and goes; what had its turn ends nothing.
        let begun = keep.path("lease-x.json.0123.new");
        fs::copy(&kept[0].0, &begun).unwrap();
        assert_eq!(keep.leases().unwrap().len(), 1);
        keep.sweep().unwrap();
        assert!(!begun.exists());
        let (first, last) = (Secret::new("cbr_first".to_owned()), Handle("cbr_last".to_owned()));
        let renewable =
            |last: &Handle| Lease { handles: vec![lease.handles[0].clone(), last.clone()], ..lease.clone() };
        keep.remember(&renewable(&Handle(first.reveal().to_owned()))).unwrap();
        keep.spent(&first).unwrap();
        assert_eq!(keep.lease("0192-l"), Some(lease.clone()));
        keep.remember(&renewable(&last)).unwrap();
        keep.spent(&first).unwrap();
        assert_eq!(keep.lease("0192-l"), Some(renewable(&last)));
        keep.forget("0192-l");
        assert!(keep.files().unwrap().is_empty());
    }

    #[test]
    fn a_directory_of_others_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Keep::open(Some(&open), &|_| None).unwrap_err().text.contains("--state-dir"));
        symlink(folder.path(), folder.path().join("link")).unwrap();
        assert!(Keep::open(Some(&folder.path().join("link")), &|_| None).is_err());
        for base in ["/nowhere", "/proc/self"] {
            let failure = Keep::open(None, &|name| (name == "RUNNER_TEMP").then(|| base.to_owned())).unwrap_err();
            assert!(failure.text.starts_with("cannot make `/") && failure.text.contains("`--state-dir`"), "{failure}");
        }
        // What stands where a file is to go is replaced, not followed.
        let (target, link) = (folder.path().join("target"), folder.path().join("there"));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        write(&link, b"new").unwrap();
        assert_eq!((fs::read(&target).unwrap(), fs::read(&link).unwrap()), (b"old".to_vec(), b"new".to_vec()));
    }

    #[test]
    fn two_jobs_of_one_machine_have_two_directories() {
        let of = |id: &'static str| usual(&move |name| (name == "CI_JOB_ID").then(|| id.to_owned()));
        assert_ne!(of("1"), of("2"));
        assert_eq!(of("1"), of("1"));
        assert!(usual(&|_| None).starts_with("/tmp"));
        assert_ne!(name_of(&["ab", "c"]), name_of(&["a", "bc"]));
    }
}
