use serde_json::{Value, json};

use super::*;

/// A manifest with everything that one can have.
fn manifest() -> Value {
    json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {
            "schemaVersion": "1.1",
            "runtime": {"type": "docker", "settings": {
                "minDockerVersion": "v1.25", "loggingOptions": "",
                "registryCredentials": {"acr": {"address": "a.example", "username": "u", "password": "p"}}}},
            "systemModules": {
                "edgeAgent": {"type": "docker", "settings": {"image": "agent:1.5", "createOptions": "{}"}},
                "edgeHub": {"type": "docker", "status": "running", "restartPolicy": "always", "startupOrder": 0,
                    "settings": {"image": "hub:1.5", "createOptions": {"HostConfig": {"PortBindings": {}}}}}},
            "modules": {
                "camera": {"type": "docker", "status": "running", "restartPolicy": "on-unhealthy", "version": "1.0",
                    "startupOrder": 2, "imagePullPolicy": "on-create", "env": {"LEVEL": {"value": 3}, "OLD": null},
                    "settings": {"image": "a.example/camera:3",
                        "createOptions01": ":{}}", "createOptions": "{\"HostConfig\""}},
                "filter": {"type": "docker", "status": "stopped", "restartPolicy": "never",
                    "settings": {"image": "filter"}, "colour": "blue"}}}},
        "$edgeHub": {"properties.desired": {
            "schemaVersion": "1.2",
            "routes": {
                "up": "FROM /messages/modules/filter/outputs/* INTO $upstream",
                "in": {"route": "FROM /messages/modules/camera/outputs/frames WHERE temperature > 3 INTO \
                    BrokeredEndpoint(\"/modules/filter/inputs/in1\")",
                    "priority": 9, "timeToLiveSecs": 1800},
                "gone": null},
            "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}},
        "camera": {"properties.desired": {"interval": 3}}
    }})
}

/// Returns the codes and messages of a manifest with one value replaced; `null` removes it.
fn said(pointer: &str, value: Value) -> Vec<(Code, String)> {
    let mut content = manifest();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = content.pointer_mut(&format!("/modulesContent{parent}")).unwrap().as_object_mut().unwrap();
    let key = key.replace("~1", "/");
    match value {
        Value::Null => drop(parent.remove(&key)),
        value => drop(parent.insert(key, value)),
    }
    let with_help = |problem: Problem| {
        let help = problem.help.map_or(String::new(), |help| format!(" {help}"));
        (problem.code, format!("{}{help}", problem.message))
    };
    check(&content).into_iter().map(with_help).collect()
}

#[track_caller]
fn refuses(pointer: &str, value: Value, code: Code, message: &str) {
    let said = said(pointer, value);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!(said[0].0, code, "{said:#?}");
    assert!(said[0].1.contains(message), "{said:#?}");
}

#[test]
fn a_whole_manifest_is_fine() {
    assert_eq!(check(&manifest()), []);
}

#[test]
fn what_is_no_manifest_is_told() {
    let first = |content: Value| check(&content).into_iter().map(|one| (one.code, one.message)).next().unwrap();
    for content in [json!([]), json!({}), json!({"modulesContent": 3}), json!(null)] {
        assert_eq!(first(content).0, code::EDGE_MODULES);
    }
    let help = |content: Value| check(&content).remove(0).help.unwrap();
    assert!(help(json!({"moduleContent": {}})).contains("Rename `moduleContent`"));
    assert!(help(json!({"content": {"modulesContent": {}}})).contains("commit what `content` has"));
    refuses("/$edgeAgent", Value::Null, code::EDGE_MODULES, "lacks `$edgeAgent`");
    refuses(
        "/$edgeHub/properties.desired",
        Value::Null,
        code::EDGE_MODULES,
        "`$edgeHub`: It lacks `properties.desired`.",
    );
}

#[test]
fn the_agent_is_looked_through() {
    let of = |path: &str| format!("/$edgeAgent/properties.desired/{path}");
    let agent = code::EDGE_AGENT;
    for version in
        [json!("2.0"), json!("1.2"), json!("1.10"), json!("1"), json!("1."), json!(1.1), json!("1.1.x"), json!("1.1.1")]
    {
        refuses(&of("schemaVersion"), version, agent, "it is text, \"1.0\" to \"1.1\"");
    }
    for version in ["1.0", "1.1", "1.1.0"] {
        assert_eq!(said(&of("schemaVersion"), json!(version)), [], "{version}");
    }
    refuses(&of("runtime"), Value::Null, agent, "`$edgeAgent.properties.desired`: It lacks `runtime`.");
    refuses(&of("runtime/type"), json!("moby"), agent, "It is \"docker\", not \"moby\".");
    refuses(&of("runtime/settings/registryCredentials/acr/password"), Value::Null, agent, "It lacks `password`.");
    refuses(&of("systemModules/edgeHub"), Value::Null, agent, "It lacks `edgeHub`.");
    refuses(&of("systemModules/edgeAgent/settings/image"), json!(" "), agent, "and this is blank");
    refuses(
        &of("modules/camera/restartPolicy"),
        json!("on-failed"),
        agent,
        "not \"on-failed\". Did you mean `on-failure`?",
    );
    refuses(&of("modules/camera/status"), Value::Null, agent, "modules.camera`: It lacks `status`.");
    refuses(&of("modules/camera/status"), json!("paused"), agent, "It is \"running\" or \"stopped\", not \"paused\".");
    refuses(&of("modules/camera/imagePullPolicy"), json!("always"), agent, "\"on-create\" or \"never\"");
    refuses(&of("modules/camera/startupOrder"), json!(-1), agent, "from 0 to 4294967295");
    refuses(&of("modules/camera/env"), json!({"A": "b"}), agent, "`{\"value\": …}`");
    refuses(&of("systemModules/edgeHub/status"), Value::Null, agent, "systemModules.edgeHub`: It lacks `status`.");
    assert_eq!(said(&of("modules/camera/version"), json!("")), []);
    refuses(&of("modules/camera/version"), json!(1), agent, "Text is needed, and this is a number.");
    refuses(&of("modules/camera/settings/image"), json!("a b"), agent, "white space");
    refuses(
        &of("modules/camera/settings/image"),
        json!("${MODULES.camera}"),
        agent,
        "commit the manifest that it makes",
    );
    refuses(&of("modules/camera/settings/image"), json!("x/a:1:2"), agent, "two `:`");
    assert_eq!(said(&of("modules/camera/settings/image"), json!("x/a:1 ")), []);
    refuses(&of("modules/filter"), json!("none"), agent, "An object is needed, and this is text.");
}

#[test]
fn create_options_are_what_the_agent_reads() {
    let agent = code::EDGE_AGENT;
    let of = |path: &str| format!("/$edgeAgent/properties.desired/{path}");
    for options in [
        "null",
        "{\"Env\": [\"a,]\\\"\",],}",
        "{\u{a0}\"Env\": []}",
        "{'Env': ['a=\"b\"', \"it's\", 'it\\'s'] /* ], */, // {\n} // end",
        "{\"hostConfig\": {\"Binds\": null, \"Memory\": \"1\", \"PortBindings\": {\"80/tcp\": [{\"HostPort\": 80}]}}}",
        "{HostConfig: {Binds: '', Privileged: true, $a_1: null}, Cmd: \"\"}",
        "{\"Env\": [\"a\nb\"], // c\r \"Tty\": true}",
        "{\"HostConfig\": {\"Unknown\": [], \"Devices\": [{\"PathOnHost\": \"/dev/i2c-1\"}]}, \"Labels\": {\"a\": 1}}",
    ] {
        assert_eq!(said(&of("modules/filter/settings/createOptions"), json!(options)), [], "{options}");
    }
    for (options, what) in [
        (
            "{\"HostConfig\": {\"Binds\": \"/a:/b\"}}",
            "`HostConfig.Binds` of the options is text, and a list is needed.",
        ),
        ("{\"Env\": {\"A\": \"b\"}}", "`Env` of the options is an object, and a list is needed."),
        ("{\"HostConfig\": []}", "`HostConfig` of the options is a list, and an object is needed."),
        (
            "{\"hostconfig\": {\"PortBindings\": {\"80/tcp\": {\"HostPort\": \"80\"}}}}",
            "PortBindings.80/tcp` of the options is an object",
        ),
        (
            "{\"HostConfig\": {\"Mounts\": [\"/a\"]}}",
            "`HostConfig.Mounts[0]` of the options is text, and an object is needed.",
        ),
        ("{\"ExposedPorts\": [\"80/tcp\"]}", "`ExposedPorts` of the options is a list, and an object is needed."),
        ("{\"Hostname\": {}}", "text, a number or a boolean is needed."),
    ] {
        refuses(&of("modules/filter/settings/createOptions"), json!(options), agent, what);
    }
    refuses(&of("modules/filter/settings/createOptions"), json!({"Cmd": "run"}), agent, "`Cmd` of the options is text");
    refuses(&of("modules/filter/settings/createOptions"), json!("{\"a\": 1,,}"), agent, "not valid JSON");
    refuses(&of("modules/filter/settings/createOptions"), json!("{\"a\": 1 /* }"), agent, "not valid JSON");
    let late = "// fine\n{\n'a': 1\n'b': 2}";
    refuses(&of("modules/filter/settings/createOptions"), json!(late), agent, "at line 4");
    refuses(&of("modules/filter/settings/createOptions02"), json!("x"), agent, "`createOptions` is missing");
    refuses(&of("modules/camera/settings/createOptions03"), json!("x"), agent, "`createOptions02` is missing");
    refuses(&of("modules/camera/settings/createOptions"), json!("{"), agent, "not valid JSON");
    refuses(&of("modules/camera/settings/createOptions"), json!({}), agent, "not an object");
    refuses(&of("modules/camera/settings/createOptions01"), json!(2), agent, "part of the text");
    refuses(&of("modules/filter/settings/createOptions"), json!("[]"), agent, "a list as JSON");
}

#[test]
fn a_slip_of_a_name_is_told_once() {
    let mut content = manifest();
    let module = content.pointer_mut("/modulesContent/$edgeAgent/properties.desired/modules/camera").unwrap();
    let policy = module.as_object_mut().unwrap().remove("restartPolicy").unwrap();
    module["restartPolcy"] = policy;
    let [problem] = check(&content).try_into().unwrap();
    assert_eq!(problem.help.as_deref(), Some("Did you mean `restartPolicy`?"));
    assert_eq!(problem.pointer, "/modulesContent/$edgeAgent/properties.desired/modules/camera/restartPolcy");
    // When the modules are not known, references to them are not checked.
    let mut content = manifest();
    let desired =
        content.pointer_mut("/modulesContent/$edgeAgent/properties.desired").unwrap().as_object_mut().unwrap();
    let modules = desired.remove("modules").unwrap();
    desired.insert("module".to_string(), modules);
    assert_eq!(check(&content).len(), 1);
}

#[test]
fn the_hub_is_looked_through() {
    let of = |path: &str| format!("/$edgeHub/properties.desired/{path}");
    let hub = code::EDGE_HUB;
    refuses(&of("storeAndForwardConfiguration"), Value::Null, hub, "It lacks `storeAndForwardConfiguration`.");
    refuses(&of("storeAndForwardConfiguration/timeToLiveSecs"), json!("2h"), hub, "whole number from -1");
    assert_eq!(said(&of("storeAndForwardConfiguration/storeLimits"), json!({"maxBytes": 1_000_000})), []);
    refuses(&of("storeAndForwardConfiguration/storeLimits"), json!(7), hub, "An object is needed");
    refuses(&of("storeAndForwardConfiguration/storeLimits"), json!({"maxbytes": 7}), hub, "`maxBytes`?");
    refuses(&of("storeAndForwardConfiguration/storeLimits"), json!({"maxBytes": "7"}), hub, "whole number from 0");
    refuses(&of("routes/up"), json!(["x"]), hub, "and this is a list");
    refuses(&of("routes/in/priority"), json!(10), hub, "whole number from 0 to 9");
    refuses(&of("routes/in/timeToLiveSecs"), json!(-1), hub, "whole number from 0");
    refuses(&of("routes/in/route"), Value::Null, hub, "It lacks `route`.");
    refuses(&of("schemaVersion"), json!("1.4"), hub, "does not read the version \"1.4\"");
    for version in ["1.1", "1.2", "1.3"] {
        assert_eq!(said(&of("schemaVersion"), json!(version)), [], "{version}");
    }
    refuses(&of("schemaVersion"), json!("1.0"), hub, "needs the `schemaVersion` \"1.1\"");
    refuses(&of("routes"), Value::Null, hub, "`$edgeHub.properties.desired`: It lacks `routes`.");
    refuses(&of("routes/up"), json!(" "), code::EDGE_ROUTE, "begins with `FROM`");
    let mut oldest = manifest();
    desired_of(&mut oldest).insert("schemaVersion".to_string(), json!("1.0"));
    desired_of(&mut oldest).insert("routes".to_string(), json!({"gone": ""}));
    assert_eq!(check(&oldest), []);
    desired_of(&mut oldest).remove("routes");
    assert_eq!(check(&oldest), []);
}

fn desired_of(content: &mut Value) -> &mut Map<String, Value> {
    let desired = content.pointer_mut("/modulesContent/$edgeHub/properties.desired").unwrap();
    desired.as_object_mut().unwrap()
}

#[test]
fn names_of_modules_are_checked() {
    let module = json!({"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": "a"}});
    let of = |name: &str| format!("/$edgeAgent/properties.desired/modules/{name}");
    for name in ["a b", "a.b", "$a", "é", "edgeHub", "a~1b", &"x".repeat(129)] {
        refuses(&of(name), module.clone(), code::EDGE_MODULE_NAME, "module");
    }
    assert_eq!(said(&of(&"x".repeat(128)), module), []);
}

#[test]
fn modules_must_exist() {
    let of = |route: &str| said("/$edgeHub/properties.desired/routes/up", json!(route));
    for (route, near) in [
        (
            "FROM /messages/modules/fliter/* INTO $upstream",
            "`fliter`, and the manifest has no such module. Did you mean `filter`?",
        ),
        ("FROM /messages/* INTO BrokeredEndpoint('/modules/Camera/inputs/a')", "Did you mean `camera`?"),
        ("FROM /messages/modules/other/outputs/a INTO $upstream", "Declare the module"),
    ] {
        let said = of(route);
        assert_eq!((said.len(), said[0].0), (1, code::EDGE_UNKNOWN_MODULE), "{said:#?}");
        assert!(said[0].1.contains(near), "{said:#?}");
    }
    refuses("/camara", json!({"properties.desired": {}}), code::EDGE_UNKNOWN_MODULE, "Did you mean `camera`?");
    refuses("/$edgeagent", json!({"properties.desired": {}}), code::EDGE_UNKNOWN_MODULE, "Did you mean `$edgeAgent`?");
}

#[test]
fn parts_of_a_layered_deployment_are_refused() {
    let paths = code::EDGE_PATHS;
    let key = "/$edgeAgent/properties.desired.modules.extra";
    refuses(key, json!({}), paths, "`\"properties.desired\": {\"modules\": {\"extra\": …}}`");
    refuses("/camera/properties.desired.interval", json!(4), paths, "layered deployment");
    refuses("/camera", json!({"properties.desird": {}}), paths, "Did you mean `properties.desired`?");
    refuses("/$edgeHub", json!({"properties.desired.routes.a": "FROM /* INTO $upstream"}), paths, "Merge it");
    refuses("/camera", json!([]), paths, "An object is needed");
}

#[test]
fn a_twin_holds_only_so_much() {
    let twin = code::EDGE_TWIN;
    refuses("/camera/properties.desired/a.b", json!(1), twin, "A twin key may not contain '.'");
    let long = |n: usize| "x".repeat(n);
    refuses("/camera/properties.desired/a", json!(long(5000)), twin, "at most 4096 bytes");
    let options = format!("{{\"a\":\"{}\"}}", long(5000));
    let of = "/$edgeAgent/properties.desired/modules/filter/settings/createOptions";
    refuses(of, json!(options), twin, "Cut the text into `createOptions`, `createOptions01`");
    refuses(of, json!({"Labels": {"a.b": "c"}}), twin, "Write the create options as text");
    let wide: Value = (0..9).map(|n| (format!("k{n}"), json!(long(4000)))).collect::<Map<_, _>>().into();
    refuses("/camera/properties.desired", wide, twin, "would count 36018 bytes, and at most 32768");
    let module = json!({"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": "a"}});
    let many: Map<String, Value> = (0..50).map(|n| (format!("m{n}"), module.clone())).collect();
    let mut content = manifest();
    let modules = content.pointer_mut("/modulesContent/$edgeAgent/properties.desired/modules").unwrap();
    modules.as_object_mut().unwrap().extend(many);
    let [problem] = check(&content).try_into().unwrap();
    assert!(problem.message.contains("52 modules, and a deployment has at most 50"), "{problem:?}");
}

#[test]
fn routes_are_read() {
    let route = |text: &'static str| route::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    for (text, from, into) in [
        ("FROM /* INTO $upstream", None, None),
        ("select * from /messages/* into $UPSTREAM", None, None),
        ("FROM /messages INTO $upstream", None, None),
        ("FROM /twinChangeNotifications INTO $upstream", None, None),
        ("FROM /messages/modules/* INTO $upstream", None, None),
        ("FROM /messages/modules/a INTO $upstream", Some("a"), None),
        ("FROM /messages/modules/a/* INTO $upstream", Some("a"), None),
        ("FROM /messages/modules/a/outputs/* INTO $upstream", Some("a"), None),
        ("FROM /messages/modules/a/outputs/reading/* INTO $upstream", Some("a"), None),
        ("FROM/messages/modules/a/outputs/e-x/* INTO $upstream", Some("a"), None),
        ("FROM /messages/* INTO BrokeredEndpoint(' /modules/b/inputs/i/ ')", None, Some("b")),
        ("FROM /messages / modules/ a WHERE (b = 1)INTO $upstream", Some("a"), None),
        (r"FROM /messages/* WHERE a = 'it\'s' INTO $upstream", None, None),
        ("FROM /messages/modules/a/outputs/o\n INTO BrokeredEndpoint( \"/modules/b/inputs/i\" )", Some("a"), Some("b")),
        (
            "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) INTO BrokeredEndpoint(\"/modules/b/inputs/i\")",
            None,
            Some("b"),
        ),
        ("FROM /* WHERE a = ' INTO ) ' INTO $upstream", None, None),
        ("FROM /* WHERE into > 3 INTO $upstream", None, None),
    ] {
        assert_eq!(route(text), route::Route { from, into }, "{text}");
    }
}

#[test]
fn what_is_no_route_is_told() {
    for (text, wanted) in [
        ("", "begins with `FROM`"),
        ("FORM /* INTO $upstream", "begins with `FROM`, and `FORM` is there"),
        ("FROM", "source is missing"),
        ("FROM /*", "has `INTO`"),
        ("FROM /* INTO", "sink behind `INTO` is missing"),
        ("FROM /* TO $upstream", "and `TO` is there"),
        ("FROM /* WHERE a = 1", "has `INTO` and a sink"),
        ("FROM /* WHERE INTO $upstream", "condition behind `WHERE` is missing"),
        ("FROM /* a = 1 INTO $upstream", "`WHERE` or `INTO` is needed"),
        ("FROM /* WHERE a = 'x INTO $upstream", "A ' is not closed"),
        ("FROM /* WHERE (a = 1 INTO $upstream", "A `(` is not closed"),
        ("FROM /* WHERE a) INTO $upstream", "A `)` has no `(`"),
        ("FROM messages/* INTO $upstream", "does not begin with `/`"),
        ("FROM /message/* INTO $upstream", "There is no source `/message`"),
        ("FROM /messages/module/a/* INTO $upstream", "has `module` where `modules` is needed"),
        ("FROM /messages/modules/a/output/b INTO $upstream", "has `output` where `outputs` is needed"),
        ("FROM /messages/modules/a/outputs/b/c INTO $upstream", "goes on behind its output"),
        ("FROM /messages/modules/a/outputs/b/c/* INTO $upstream", "goes on behind its output"),
        ("FROM /messages/modules/a/outputs/*/b INTO $upstream", "`*` before its end"),
        ("FROM /messages/modules/*/outputs/b INTO $upstream", "`*` before its end"),
        ("FROM /messages//a INTO $upstream", "empty part"),
        ("FROM / INTO $upstream", "empty part"),
        ("FROM /messages/ INTO $upstream", "ends with `/`"),
        ("FROM /messages/modules/a/outputs/b/*/ INTO $upstream", "ends with `/`"),
        ("FROM /messages/modules/a/outputs/1 INTO $upstream", "the part `1`, which is read as a number"),
        ("FROM /messages/modules/a/outputs/e1 INTO $upstream", "read as a number"),
        ("FROM /messages/modules/a/outputs/0x1f INTO $upstream", "read as a number"),
        ("FROM /messages/modules/a/outputs/-1.5 INTO $upstream", "read as a number"),
        ("FROM /messages/modules/a/outputs/And INTO $upstream", "a word of the language"),
        ("FROM /messages/modules/a/outputs/true INTO $upstream", "a word of the language"),
        ("FROM /messages/modules/a@b/* INTO $upstream", "has a `@`"),
        (r"FROM /* WHERE a = 'x\' INTO $upstream", "A ' is not closed"),
        ("FROM /* INTO $upstream)", "A `)` has no `(`"),
        ("FROM /* INTO upstream", "There is no sink `upstream`"),
        ("FROM /* INTO $upstream $upstream", "There is no sink"),
        ("FROM /* INTO BrokeredEndpoint(/modules/a/inputs/b)", "in quotes"),
        ("FROM /* INTO BrokeredEndpoint(\"/modules/a\")", "is not the input of a module"),
        ("FROM /* INTO BrokeredEndpoint(\"/modules/a/inputs/\")", "is not the input of a module"),
        ("FROM /* INTO BrokeredEndpoint", "in quotes"),
    ] {
        let error = route::parse(text).unwrap_err();
        assert!(error.message.contains(wanted), "{text}: {error:?}");
    }
}

#[test]
fn nothing_panics_and_problems_are_bounded() {
    // Every value of a manifest is replaced by every other sort of value, and taken away.
    let whole = manifest();
    let mut pointers = vec![String::new()];
    let mut at = 0;
    while let Some(pointer) = pointers.get(at).cloned() {
        if let Some(members) = whole.pointer(&pointer).and_then(Value::as_object) {
            pointers
                .extend(members.keys().map(|key| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))));
        }
        at += 1;
    }
    assert!(pointers.len() > 50);
    for pointer in &pointers {
        for value in
            [json!(null), json!(true), json!(-3), json!("x\u{202e}y"), json!([{}]), json!({}), json!({"a": {"b": 1}})]
        {
            let mut content = whole.clone();
            *content.pointer_mut(pointer).unwrap() = value;
            for problem in check(&content) {
                assert!(!problem.message.contains('\u{202e}'), "{problem:?}");
            }
        }
    }
    let many: Map<String, Value> = (0..1000).map(|n| (format!("m{n}"), json!(3))).collect();
    let mut content = manifest();
    *content.pointer_mut("/modulesContent/$edgeHub/properties.desired/routes").unwrap() = many.into();
    assert_eq!(check(&content).len(), limits::EDGE_PROBLEMS_MAX);
}
