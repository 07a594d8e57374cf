//! Where the registry of a fleet is: a file of this machine, or a database.

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use jiff::Timestamp;

use super::PrepareError;
use crate::registry::postgres::{PostgresPlace, is_url};
use crate::registry::sqlite::SqlitePlace;
use crate::registry::{ExclusionFailure, Exclusive, Listening, RegistryError, Store, StorePlace};
use crate::repo::is_same_file;

/// The folder in a fleet's folder that belongs to this machine alone: its registry, and what its daemon keeps.
pub const OWN_FOLDER: &str = ".fleetform";

/// Reads a variable of the environment. By default there is none.
#[derive(Debug, Clone, Copy)]
pub struct Variables(pub fn(&str) -> Option<OsString>);

impl Default for Variables {
    fn default() -> Variables {
        Variables(|_| None)
    }
}

/// The registry of a fleet where it is, not open. Copies share it: what one of them opens is written under the right to
/// work that another one has taken.
#[derive(Clone)]
pub struct OwnRegistry {
    place: Rc<dyn StorePlace>,
    /// The file; `None` for a database.
    file: Option<PathBuf>,
}

impl OwnRegistry {
    /// Returns the registry in a file.
    pub(super) fn in_file(path: PathBuf, fleet: &str) -> OwnRegistry {
        OwnRegistry { place: Rc::new(SqlitePlace::new(path.clone(), fleet)), file: Some(path) }
    }

    /// Returns the registry that `--registry` names.
    ///
    /// # Errors
    /// [`PrepareError::Usage`]: it is neither a file nor a database.
    pub(super) fn given(url: &str, fleet: &str) -> Result<OwnRegistry, PrepareError> {
        if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(OwnRegistry::in_file(PathBuf::from(path), fleet));
        }
        if !is_url(url) {
            return Err(PrepareError::Usage {
                what: "the value of --registry is not understood".to_string(),
                help: "Write it as `sqlite:PATH`, or as `postgres://USER@HOST/DATABASE` in the variable \
                    FLEETFORM_REGISTRY when it has a password."
                    .to_string(),
            });
        }
        match PostgresPlace::new(url, fleet) {
            Ok(place) => Ok(OwnRegistry { place: Rc::new(place), file: None }),
            Err(error) => Err(PrepareError::Usage {
                what: format!("the URL of --registry {error}"),
                help: error.help().to_string(),
            }),
        }
    }

    /// Returns the registry that an argument names: `sqlite:PATH`, `postgres://…`, or `env:NAME` for a variable of the
    /// environment that has the URL of a database.
    ///
    /// # Errors
    /// [`PrepareError::Usage`]: it is none of them; or the variable cannot be used.
    pub(super) fn named(text: &str, variables: Variables, fleet: &str) -> Result<OwnRegistry, PrepareError> {
        const HELP: &str = "Write it as `sqlite:PATH`, as `postgres://USER@HOST/DATABASE`, or as `env:NAME` where the \
             variable NAME has the URL of a database.";
        if let Some(name) = text.strip_prefix("env:") {
            return Ok(OwnRegistry::of_variable(name, variables, fleet)?);
        }
        match OwnRegistry::given(text, fleet) {
            Err(PrepareError::Usage { .. }) if !is_url(text) => {
                // It may be a URL with a password in it.
                Err(PrepareError::Usage { what: "a registry is not understood".to_string(), help: HELP.to_string() })
            }
            found => found,
        }
    }

    /// Returns true when both are one: the same file, by links or by mounts, or the same address. A database may have
    /// several addresses.
    pub fn is(&self, other: &OwnRegistry) -> bool {
        match (self.file(), other.file()) {
            (Some(one), Some(two)) => one == two || is_same_file(&one, &two),
            (None, None) => self.place.location() == other.place.location(),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Returns the path of what is known of the registry beside it; `None` for a database.
    pub fn witness_path(&self) -> Option<PathBuf> {
        self.file().map(|file| file.with_extension("witness"))
    }

    /// Returns the registry whose URL is in a variable of the environment.
    ///
    /// # Errors
    /// [`RegistryError::Variable`]: it has none that can be used.
    pub(super) fn of_variable(name: &str, variables: Variables, fleet: &str) -> Result<OwnRegistry, RegistryError> {
        const SET: &str = "Set it for the process of fleetform to `postgres://USER:PASSWORD@HOST/DATABASE`, or name \
             another registry with --registry.";
        let unusable = |what: String, help| RegistryError::Variable { name: name.to_string(), what, help };
        let Variables(read) = variables;
        let url = read(name).ok_or_else(|| unusable("is not set".to_string(), SET))?;
        let url = url.into_string().map_err(|_| unusable("is not UTF-8".to_string(), SET))?;
        if url.is_empty() {
            return Err(unusable("is empty".to_string(), SET));
        }
        if url.starts_with("sqlite:") {
            let what = "names a file, and `spec.registry.postgres` needs a database".to_string();
            return Err(unusable(what, "Write the path as `spec.registry.sqlite.path`, or give it with --registry."));
        }
        match PostgresPlace::new(&url, fleet) {
            Ok(place) => Ok(OwnRegistry { place: Rc::new(place), file: None }),
            Err(error) => Err(unusable(error.to_string(), error.help())),
        }
    }

    /// Returns where it is, for people: a path, or an address without secrets.
    pub fn location(&self) -> String {
        self.place.location()
    }

    /// Returns true for another copy of this value.
    pub fn is_same(&self, other: &OwnRegistry) -> bool {
        Rc::ptr_eq(&self.place, &other.place)
    }

    /// Returns the absolute path of the file; `None` for a database. A path of `--registry` is relative to where the
    /// command was called.
    pub fn file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()))
    }

    /// Returns where it is, the same from every folder of this machine: an absolute path, or an address without
    /// secrets.
    pub fn place_name(&self) -> String {
        self.file().map_or_else(|| self.place.location(), |file| file.display().to_string())
    }

    /// Returns true when there is a registry.
    ///
    /// # Errors
    /// It cannot be known.
    pub fn is_there(&self) -> Result<bool, RegistryError> {
        self.place.is_there()
    }

    /// Opens the registry for writing. A new folder of a file inside the fleet's is kept out of git: it holds keys.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open_for_writing(&self) -> Result<Box<dyn Store>, PrepareError> {
        if let Some(folder) = self.file.as_ref().and_then(|file| file.parent())
            && folder.file_name().is_some_and(|name| name == OWN_FOLDER)
            && !folder.join(".gitignore").exists()
        {
            let ignore = folder.join(".gitignore");
            let made = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&ignore, "*\n"));
            made.map_err(|source| PrepareError::Output {
                what: format!("{} cannot be written", ignore.display()),
                source,
            })?;
        }
        Ok(self.place.open()?)
    }

    /// Opens the registry for reading; nothing is made.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open_for_reading(&self) -> Result<Box<dyn Store>, RegistryError> {
        self.place.open_for_reading()
    }

    /// Has stores stay open that are no longer used, as [`StorePlace::keep_open`].
    pub fn keep_open(&self) {
        self.place.keep_open();
    }

    /// Closes the stores that stay open, as [`StorePlace::close_kept`].
    pub fn close_kept(&self) {
        self.place.close_kept();
    }

    /// Returns what tells its content from any other one, as [`StorePlace::state`].
    pub fn state(&self, now: Timestamp) -> Option<String> {
        self.place.state(now)
    }

    /// Returns the process that has the right to work on the registry, empty when its name is not known; `None` when
    /// none has.
    pub fn holder(&self) -> Option<String> {
        self.place.holder()
    }

    /// Returns true while some process has the right to work on the registry.
    pub fn is_worked_on(&self) -> bool {
        self.holder().is_some()
    }

    /// Takes the right to work on the registry, for an owner of this name.
    ///
    /// # Errors
    /// Another process has it, or it cannot be taken.
    pub fn lock(&self, owner: &str) -> Result<Rc<dyn Exclusive>, ExclusionFailure> {
        self.place.exclude(owner)
    }

    /// Takes the right to be the one daemon that listens to the devices, for an owner of this name.
    ///
    /// # Errors
    /// [`PrepareError::AtWork`]: another daemon has it; or it cannot be taken.
    pub fn listen(&self, owner: &str) -> Result<Rc<dyn Listening>, PrepareError> {
        self.place.listen(owner).map_err(|failure| match failure {
            ExclusionFailure::Failed(error) => error.into(),
            ExclusionFailure::Held(holder) => PrepareError::AtWork {
                what: match holder {
                    Some(holder) => format!("another daemon listens to the devices of this registry: {holder}"),
                    None => "another daemon listens to the devices of this registry".to_string(),
                },
                help: "This one goes on when the other one ends.".to_string(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_without_a_url_is_told_by_its_name() {
        let check = |variables: Variables, expect: &str| {
            let error = OwnRegistry::of_variable("DB", variables, "acme").err().expect("it is no URL");
            let text = error.to_string();
            assert_eq!(text, format!("the variable `DB`, which has the URL of the registry, {expect}"));
            assert!(!error.help().is_empty() && !text.contains("secret"), "{text}");
        };
        check(Variables::default(), "is not set");
        check(Variables(|_| Some(OsString::new())), "is empty");
        check(Variables(|_| Some("sqlite:/a".into())), "names a file, and `spec.registry.postgres` needs a database");
        check(Variables(|_| Some("secret".into())), "does not begin with postgres:// or postgresql://");
        check(Variables(|_| Some("postgres://a:secret@/b".into())), "names no host");
        #[cfg(unix)]
        check(Variables(|_| Some(std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]))), "is not UTF-8");
    }

    #[test]
    fn a_command_line_names_a_file_or_a_database() {
        let given = |url: &str| OwnRegistry::given(url, "acme");
        assert_eq!(given("sqlite:/srv/fleet.db").unwrap().file(), Some(PathBuf::from("/srv/fleet.db")));
        let database = given("postgresql://ann:secret@db.example/fleet?sslmode=disable").unwrap();
        assert_eq!((database.file(), database.place_name().as_str()), (None, "postgres://ann@db.example/fleet"));
        for wrong in ["", "fleet.db", "sqlite:", "mysql://ann:secret@db/fleet", "postgres://ann:secret@db"] {
            let Err(PrepareError::Usage { what, help }) = given(wrong) else { panic!("{wrong} is taken") };
            assert!(!what.contains("secret") && !help.contains("secret"), "{what} {help}");
        }
    }
}
