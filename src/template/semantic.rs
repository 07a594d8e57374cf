//! Semantic types and their units: of version 2 of DTDL itself, of version 3 by its extension for quantities.

use crate::diag::{nearest, shown};

/// The language of semantic types in version 3.
pub const QUANTITATIVE: &str = "dtmi:dtdl:extension:quantitativeTypes;1";

/// What stands before the name of a type, or of a unit, that is written as its identifier.
const TYPE_PREFIXES: [&str; 2] = ["dtmi:standard:class:", "dtmi:dtdl:extension:quantitativeTypes:v1:class:"];
const UNIT_PREFIXES: [&str; 2] = ["dtmi:standard:unit:", "dtmi:dtdl:extension:quantitativeTypes:v1:unit:"];
/// Units that a message names.
const SHOWN: usize = 4;

/// A semantic type, such as `Temperature`: what a number is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Semantic {
    pub name: &'static str,
    of_version_2: &'static [&'static str],
    of_version_3: &'static [&'static str],
}

impl Semantic {
    /// Returns the semantic type of a word of an `@type`, in a version of DTDL; `None` for any other word.
    pub fn of_word(word: &str, version: u8) -> Option<Semantic> {
        let name = short(word, &TYPE_PREFIXES);
        let (name, kind, _) = TYPES.iter().find(|(one, _, is_old)| *one == name && (*is_old || version == 3))?;
        let (_, of_version_2, of_version_3) = UNITS.iter().find(|(one, _, _)| one == kind)?;
        Some(Semantic { name, of_version_2, of_version_3: if version == 3 { of_version_3 } else { &[] } })
    }

    /// Returns what is wrong with a unit of it, as a part of a sentence; `None` for one that it has.
    pub fn refusal(&self, unit: &str) -> Option<String> {
        let name = short(unit, &UNIT_PREFIXES);
        if self.units().any(|one| one == name) {
            return None;
        }
        let near = nearest(name, self.units()).map(|near| format!("; did you mean `{near}`?"));
        Some(format!("`{}` is no unit of `{}`{}", shown(unit), self.name, near.unwrap_or_else(|| self.choice())))
    }

    /// Returns its first units as the end of a sentence.
    pub fn choice(&self) -> String {
        let names: Vec<String> = self.units().take(SHOWN).map(|unit| format!("`{unit}`")).collect();
        let more = if self.units().count() > SHOWN { ", …" } else { "" };
        format!(": it has {}{more}", names.join(", "))
    }

    fn units(&self) -> impl Iterator<Item = &'static str> {
        self.of_version_2.iter().chain(self.of_version_3).copied()
    }
}

/// Returns true for the name of a unit of any type.
pub fn is_unit(word: &str) -> bool {
    UNITS.iter().any(|(kind, old, new)| *kind == word || old.contains(&word) || new.contains(&word))
}

/// Returns the name of what may be written as an identifier.
fn short<'w>(word: &'w str, prefixes: &[&str]) -> &'w str {
    let rest = prefixes.iter().find_map(|prefix| word.strip_prefix(prefix));
    rest.map_or(word, |rest| rest.split_once(';').map_or(rest, |(name, _)| name))
}

/// The semantic types: name, the kind of its units, and whether version 2 of DTDL has it.
const TYPES: [(&str, &str, bool); 52] = [
    ("Acceleration", "AccelerationUnit", true),
    ("Angle", "AngleUnit", true),
    ("AngularAcceleration", "AngularAccelerationUnit", true),
    ("AngularVelocity", "AngularVelocityUnit", true),
    ("ApparentEnergy", "ApparentEnergyUnit", false),
    ("ApparentPower", "ApparentPowerUnit", false),
    ("Area", "AreaUnit", true),
    ("Capacitance", "CapacitanceUnit", true),
    ("Concentration", "Unitless", false),
    ("Current", "CurrentUnit", true),
    ("DataRate", "DataRateUnit", true),
    ("DataSize", "DataSizeUnit", true),
    ("Density", "DensityUnit", true),
    ("Distance", "LengthUnit", true),
    ("ElectricCharge", "ChargeUnit", true),
    ("Energy", "EnergyUnit", true),
    ("EnergyRate", "PowerUnit", false),
    ("Force", "ForceUnit", true),
    ("Frequency", "FrequencyUnit", true),
    ("Humidity", "DensityUnit", true),
    ("Illuminance", "IlluminanceUnit", true),
    ("Inductance", "InductanceUnit", true),
    ("IonizingRadiationDose", "IonizingRadiationDoseUnit", false),
    ("Irradiance", "IrradianceUnit", false),
    ("Latitude", "AngleUnit", true),
    ("Length", "LengthUnit", true),
    ("Longitude", "AngleUnit", true),
    ("Luminance", "LuminanceUnit", true),
    ("Luminosity", "PowerUnit", true),
    ("LuminousFlux", "LuminousFluxUnit", true),
    ("LuminousIntensity", "LuminousIntensityUnit", true),
    ("MagneticFlux", "MagneticFluxUnit", true),
    ("MagneticInduction", "MagneticInductionUnit", true),
    ("Mass", "MassUnit", true),
    ("MassFlowRate", "MassFlowRateUnit", true),
    ("Power", "PowerUnit", true),
    ("Pressure", "PressureUnit", true),
    ("Radioactivity", "RadioactivityUnit", false),
    ("ReactiveEnergy", "ReactiveEnergyUnit", false),
    ("ReactivePower", "ReactivePowerUnit", false),
    ("RelativeDensity", "Unitless", false),
    ("RelativeHumidity", "Unitless", true),
    ("Resistance", "ResistanceUnit", true),
    ("SoundPressure", "SoundPressureUnit", true),
    ("Temperature", "TemperatureUnit", true),
    ("Thrust", "ForceUnit", true),
    ("TimeSpan", "TimeUnit", true),
    ("Torque", "TorqueUnit", true),
    ("Velocity", "VelocityUnit", true),
    ("Voltage", "VoltageUnit", true),
    ("Volume", "VolumeUnit", true),
    ("VolumeFlowRate", "VolumeFlowRateUnit", true),
];

/// The units of each kind: those of version 2 of DTDL, and those that the extension of version 3 adds.
#[rustfmt::skip]
const UNITS: [(&str, &[&str], &[&str]); 43] = [
    ("AccelerationUnit", &["centimetrePerSecondSquared", "gForce", "metrePerSecondSquared"], &[]),
    ("AngleUnit", &["degreeOfArc", "minuteOfArc", "radian", "secondOfArc", "turn"], &[]),
    ("AngularAccelerationUnit", &["radianPerSecondSquared"], &[]),
    ("AngularVelocityUnit",
        &["degreePerSecond", "radianPerSecond", "revolutionPerMinute", "revolutionPerSecond"],
        &[]),
    ("ApparentEnergyUnit",
        &[],
        &["gigavoltAmpereHour", "kilovoltAmpereHour", "megavoltAmpereHour", "voltAmpereHour"]),
    ("ApparentPowerUnit",
        &[],
        &["gigavoltAmpere", "kilovoltAmpere", "megavoltAmpere", "millivoltAmpere", "voltAmpere"]),
    ("AreaUnit",
        &["acre", "hectare", "squareCentimetre", "squareFoot", "squareInch", "squareKilometre", "squareMetre",
          "squareMillimetre"],
        &[]),
    ("CapacitanceUnit", &["farad", "microfarad", "millifarad", "nanofarad", "picofarad"], &[]),
    ("ChargeUnit", &["coulomb"], &["ampereHour", "milliampereHour"]),
    ("CurrentUnit", &["ampere", "microampere", "milliampere"], &["kiloampere"]),
    ("DataRateUnit",
        &["bitPerSecond", "bytePerSecond", "exbibitPerSecond", "exbibytePerSecond", "gibibitPerSecond",
          "gibibytePerSecond", "kibibitPerSecond", "kibibytePerSecond", "mebibitPerSecond", "mebibytePerSecond",
          "tebibitPerSecond", "tebibytePerSecond", "yobibitPerSecond", "yobibytePerSecond", "zebibitPerSecond",
          "zebibytePerSecond"],
        &[]),
    ("DataSizeUnit",
        &["bit", "byte", "exbibit", "exbibyte", "gibibit", "gibibyte", "kibibit", "kibibyte", "mebibit",
          "mebibyte", "tebibit", "tebibyte", "yobibit", "yobibyte", "zebibit", "zebibyte"],
        &[]),
    ("DensityUnit",
        &["gramPerCubicMetre", "kilogramPerCubicMetre"],
        &["microgramPerCubicMetre", "milligramPerCubicMetre"]),
    ("EnergyUnit",
        &["electronvolt", "gigajoule", "joule", "kilojoule", "kilowattHour", "megaelectronvolt", "megajoule"],
        &["britishThermalUnit", "gigawattHour", "kiloBritishThermalUnit", "megawattHour", "milliwattHour",
          "terawattHour", "wattHour"]),
    ("ForceUnit", &["newton", "ounce", "pound", "ton"], &[]),
    ("FrequencyUnit", &["gigahertz", "hertz", "kilohertz", "megahertz"], &["millihertz"]),
    ("IlluminanceUnit", &["footcandle", "lux"], &[]),
    ("InductanceUnit", &["henry", "microhenry", "millihenry"], &[]),
    ("IonizingRadiationDoseUnit",
        &[],
        &["gray", "microgray", "microsievert", "milligray", "millisievert", "sievert"]),
    ("IrradianceUnit", &[], &["wattPerSquareMetre"]),
    ("LengthUnit",
        &["astronomicalUnit", "centimetre", "foot", "inch", "kilometre", "metre", "micrometre", "mile",
          "millimetre", "nanometre", "nauticalMile"],
        &[]),
    ("LuminanceUnit", &["candelaPerSquareMetre"], &[]),
    ("LuminousFluxUnit", &["lumen"], &[]),
    ("LuminousIntensityUnit", &["candela"], &[]),
    ("MagneticFluxUnit", &["maxwell", "weber"], &[]),
    ("MagneticInductionUnit", &["tesla"], &["gauss"]),
    ("MassFlowRateUnit",
        &["gramPerHour", "gramPerSecond", "kilogramPerHour", "kilogramPerSecond"],
        &["massPoundPerHour"]),
    ("MassUnit", &["gram", "kilogram", "microgram", "milligram", "slug", "tonne"], &["massPound"]),
    ("PowerUnit",
        &["gigawatt", "horsepower", "kilowatt", "kilowattHourPerYear", "megawatt", "microwatt", "milliwatt",
          "watt"],
        &["britishThermalUnitPerHour", "gigajoulePerHour", "joulePerHour", "joulePerSecond",
          "kiloBritishThermalUnitPerHour", "kilojoulePerHour", "kilojoulePerSecond", "megajoulePerHour",
          "tonOfRefrigeration"]),
    ("PressureUnit",
        &["bar", "inchesOfMercury", "inchesOfWater", "kilopascal", "millibar", "millimetresOfMercury", "pascal",
          "poundPerSquareInch"],
        &["decapascal", "hectopascal"]),
    ("RadioactivityUnit", &[], &["becquerel", "gigabecquerel", "kilobecquerel", "megabecquerel"]),
    ("ReactiveEnergyUnit",
        &[],
        &["gigavoltAmpereReactiveHour", "kilovoltAmpereReactiveHour", "megavoltAmpereReactiveHour",
          "voltAmpereReactiveHour"]),
    ("ReactivePowerUnit",
        &[],
        &["gigavoltAmpereReactive", "kilovoltAmpereReactive", "megavoltAmpereReactive", "millivoltAmpereReactive",
          "voltAmpereReactive"]),
    ("ResistanceUnit", &["kiloohm", "megaohm", "milliohm", "ohm"], &[]),
    ("SoundPressureUnit", &["bel", "decibel"], &[]),
    ("TemperatureUnit", &["degreeCelsius", "degreeFahrenheit", "kelvin"], &[]),
    ("TimeUnit", &["day", "hour", "microsecond", "millisecond", "minute", "nanosecond", "second", "year"], &[]),
    ("TorqueUnit", &["newtonMetre"], &[]),
    ("Unitless",
        &["percent", "unity"],
        &["partsPerBillion", "partsPerMillion", "partsPerQuadrillion", "partsPerTrillion"]),
    ("VelocityUnit",
        &["centimetrePerSecond", "kilometrePerHour", "kilometrePerSecond", "knot", "metrePerHour",
          "metrePerSecond", "milePerHour", "milePerSecond"],
        &[]),
    ("VoltageUnit", &["kilovolt", "megavolt", "microvolt", "millivolt", "volt"], &[]),
    ("VolumeFlowRateUnit",
        &["litrePerHour", "litrePerSecond", "millilitrePerHour", "millilitrePerSecond"],
        &["cubicFootPerMinute", "cubicMetrePerHour", "cubicMetrePerMinute", "cubicMetrePerSecond",
          "gallonPerHour", "gallonPerMinute", "litrePerMinute", "millilitrePerMinute"]),
    ("VolumeUnit",
        &["cubicCentimetre", "cubicFoot", "cubicInch", "cubicMetre", "fluidOunce", "gallon", "litre",
          "millilitre"],
        &[]),
];
