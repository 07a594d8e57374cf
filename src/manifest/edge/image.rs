//! Names of container images, as the agent reads them (Azure/iotedge, `DockerConfig`).

/// Returns why a text is no name of an image, the end of a sentence; `None` when it is one.
///
/// It is `[repository/…]name[:tag]`, or `$upstream:<port>/…` at a nested device; white space around it does not count.
pub fn fault_of(image: &str) -> Option<&'static str> {
    let image = image.trim();
    if image.contains(char::is_whitespace) {
        return Some("it has white space");
    }
    if image.starts_with('$') {
        let port = image.strip_prefix("$upstream:").and_then(|rest| rest.chars().next());
        return (!port.is_some_and(|digit| ('1'..='9').contains(&digit)))
            .then_some("what begins with `$` is to be filled in");
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.split(':').collect::<Vec<_>>().as_slice() {
        [""] => Some("nothing is behind its last `/`"),
        ["", ..] => Some("its name is missing"),
        [_] => None,
        [_, ""] => Some("its tag is missing"),
        [_, _] => None,
        [first, ..] if first.contains('@') => Some("it has two `:` behind its last `/`"),
        [_, tag, ..] if tag.contains('@') => Some("it has a tag and a digest, and IoT Edge takes one or the other"),
        _ => Some("it has two `:` behind its last `/`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_what_the_agent_takes() {
        let digest = "sha256:0123456789abcdef";
        for image in [
            "a",
            "x/a:1",
            "localhost:5000/a:1",
            "a.example:443/b/c",
            " x/a:1\n",
            "$upstream:443/a:1",
            &format!("x/a@{digest}"),
        ] {
            assert_eq!(fault_of(image), None, "{image}");
        }
        for (image, why) in [
            ("${MODULES.camera}", "filled in"),
            ("$CONTAINER_REGISTRY/a:1", "filled in"),
            ("$upstream/a:1", "filled in"),
            ("a b", "white space"),
            ("x/a/", "behind its last `/`"),
            ("x/a:1:-arm64v8", "two `:`"),
            ("x/:1", "name is missing"),
            ("a:", "tag is missing"),
            (&format!("x/a:1@{digest}"), "a tag and a digest"),
        ] {
            assert!(fault_of(image).is_some_and(|fault| fault.contains(why)), "{image}: {:?}", fault_of(image));
        }
    }
}
