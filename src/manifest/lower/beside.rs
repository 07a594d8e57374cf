//! The documents beside jobs: organizations, templates, groups, edge manifests and imports.

use serde_json::Value;

use super::{Draft, FileFormat, Lowering};
use crate::diag::{Diagnostic, code, nearest, shown};
use crate::manifest::node::pointer;
use crate::manifest::structure::list;
use crate::manifest::v1;
use crate::model::digest::Digest;
use crate::model::fleet::{DeviceImport, ImportExpect, ImportFormat, Removed};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::template::{SCHEMA_WORDS, is_name};

impl Lowering<'_> {
    pub(super) fn organization(&mut self, spec: v1::OrganizationSpec) -> Draft {
        let v1::OrganizationSpec { parent } = spec;
        Draft::Organization { parent: parent.map(|text| self.reference(Kind::Organization, &text.0, "/spec/parent")) }
    }

    pub(super) fn device_template(&mut self, spec: v1::DeviceTemplateSpec) -> Draft {
        let v1::DeviceTemplateSpec { model, cloud_properties } = spec;
        self.file(&model.0, "/spec/model", FileFormat::Json);
        for (name, schema) in &cloud_properties {
            let at = pointer(["spec", "cloudProperties", name]);
            if !SCHEMA_WORDS.contains(&schema.as_str()) {
                let detail = format!("`{}` is not a schema of DTDL that is a word.", shown(schema));
                let help = match nearest(schema, SCHEMA_WORDS) {
                    Some(near) => format!("Did you mean `{near}`?"),
                    None => format!("The schemas are {}.", list(SCHEMA_WORDS)),
                };
                let span = super::span(self.root, &at);
                self.diagnostics.push(Diagnostic::new(code::PROPERTY_SCHEMA, span, detail).with_help(help));
            }
            if !is_dtdl_name(name) {
                let detail = format!(
                    "`{}` is not the name of a property: a letter, then at most 63 letters, digits and `_`, and no \
                     `_` at the end.",
                    shown(name)
                );
                let span = self.root.locate(&at).key_span();
                self.diagnostics.push(Diagnostic::new(code::PROPERTY_SCHEMA, span, detail));
            }
        }
        Draft::DeviceTemplate { cloud_properties }
    }

    pub(super) fn device_group(&mut self, spec: v1::DeviceGroupSpec) -> Draft {
        let v1::DeviceGroupSpec { template, organization, query } = spec;
        Draft::DeviceGroup {
            template: template.map(|text| self.reference(Kind::DeviceTemplate, &text.0, "/spec/template")),
            organization: self.organization_reference(organization, "/spec/organization"),
            query,
        }
    }

    pub(super) fn edge_manifest(&mut self, spec: v1::EdgeManifestSpec) -> Draft {
        let v1::EdgeManifestSpec { file } = spec;
        self.file(&file.0, "/spec/file", FileFormat::Json);
        Draft::EdgeManifest
    }

    pub(super) fn device_import(&mut self, name: Name, spec: v1::DeviceImportSpec, written: &Value) -> Draft {
        let v1::DeviceImportSpec { file, template, organization, from_rows, simulated, removed, expect } = spec;
        self.file(&file.0, "/spec/file", FileFormat::Import);
        let v1::ImportExpect { min, max, removed: removed_max, rejected } = expect.unwrap_or_default();
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let detail = format!("At least {min} and at most {max} devices cannot both hold.");
            self.report(code::EXPECT_RANGE, "/spec/expect/min", detail);
        }
        let spec_digest = Digest::of_json(written);
        Draft::DeviceImport(DeviceImport {
            name,
            // Another ending has a diagnostic, so the default is never used.
            format: ImportFormat::of_path(&file.0).unwrap_or(ImportFormat::Csv),
            file: file.0,
            template: template.map(|text| self.reference(Kind::DeviceTemplate, &text.0, "/spec/template")),
            organization: self.organization_reference(organization, "/spec/organization"),
            rows_have_template: from_rows.contains(&v1::RowField::Template),
            rows_have_organization: from_rows.contains(&v1::RowField::Organization),
            simulated,
            removed: match removed {
                None | Some(v1::Removed::Keep) => Removed::Keep,
                Some(v1::Removed::Block) => Removed::Block,
                Some(v1::Removed::Delete) => Removed::Delete,
            },
            expect: ImportExpect { min, max, removed: removed_max, rejected },
            spec_digest,
        })
    }
}

/// Returns true for the name of a command, a component or a property.
pub(super) fn is_dtdl_name(name: &str) -> bool {
    is_name(name, limits::CAPABILITY_NAME_CHARS_MAX)
}
