//! Named malformations, each with its whole message.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use made::Tensors;
use made::sound::{fp8, mxfp4, nf4, sound, zeros};
use niwaki_foreign::{Format, Imported};
use niwaki_tensors::{Blame, Dtype};
use serde_json::{Value, json};

fn open(tensors: &Tensors, config: Option<&Value>) -> Result<usize, niwaki_foreign::Error> {
    Ok(Imported::of(&tensors.inventory(), config)?.map_or(0, |imported| imported.tensors().len()))
}

type Edit = fn(&mut Tensors, &mut Value);

fn says((mut tensors, mut config): (Tensors, Value), edit: Edit, message: &str) {
    assert_eq!(open(&tensors, Some(&config)).unwrap(), 1, "unharmed");
    edit(&mut tensors, &mut config);
    let error = open(&tensors, Some(&config)).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.blame()), (message, Blame::Input));
}

#[test]
fn keys_of_the_configuration() {
    let gptq = || sound(Format::Gptq);
    says(
        gptq(),
        |_, c| c["quantization_config"]["bits"] = json!("four"),
        "`config.json`: `quantization_config.bits` is `four`; needed: 2, 3, 4 or 8",
    );
    says(
        gptq(),
        |_, c| c["quantization_config"]["bits"] = json!(5),
        "`config.json`: `quantization_config.bits` is 5; needed: 2, 3, 4 or 8",
    );
    says(
        gptq(),
        |_, c| drop(c["quantization_config"].as_object_mut().unwrap().remove("group_size")),
        "`config.json`: `quantization_config.group_size` is not there; needed: a number from 1, or -1 for whole rows",
    );
    says(
        gptq(),
        |_, c| c["quantization_config"]["group_size"] = json!(0),
        "`config.json`: `quantization_config.group_size` is 0; needed: a number from 1, or -1 for whole rows",
    );
    says(
        gptq(),
        |_, c| c["quantization_config"]["checkpoint_format"] = json!("gptq_p"),
        "`config.json`: `quantization_config.checkpoint_format` is `gptq_p`; needed: `gptq` or `gptq_v2`",
    );
    says(
        gptq(),
        |_, c| c["quantization_config"] = json!([]),
        "`config.json`: `quantization_config` is a list; needed: an object",
    );
    says(
        gptq(),
        |_, c| c["quantization_config"]["quant_method"] = json!("hqq"),
        "tensor `m.qweight`: `config.json`: `quant_method` is `hqq`; read here: compressed-tensors, gptq, awq, fp8, fbgemm_fp8, mxfp4, bitsandbytes",
    );
    says(
        gptq(),
        |_, c| c["quantization_config"] = json!({"quant_method": "fp8"}),
        "tensor `m.qweight`: is GPTQ; `config.json` says fp8",
    );
    says(
        sound(Format::Awq),
        |_, c| c["quantization_config"]["version"] = json!("gemv"),
        "`config.json`: `quantization_config.version` is `gemv`; needed: `gemm`",
    );
    says(
        sound(Format::PackQuantized),
        |_, c| c["quantization_config"]["format"] = json!("marlin-24"),
        "compressed-tensors `marlin-24` is not read here",
    );
    says(
        sound(Format::PackQuantized),
        |_, c| c["quantization_config"]["config_groups"]["group_0"]["weights"]["type"] = json!(7),
        "`config.json`: `quantization_config.config_groups.group_0.weights.type` is 7; needed: a text",
    );
}

#[test]
fn keys_of_mlx() {
    let mlx = || sound(Format::Mlx);
    says(
        mlx(),
        |_, c| c["quantization_config"]["group_size"] = json!(48),
        "`config.json`: `quantization_config.group_size` is 48; needed: 32, 64 or 128",
    );
    says(
        mlx(),
        |_, c| c["quantization_config"]["mode"] = json!("mxfp8"),
        "`config.json`: `quantization_config.mode` is `mxfp8`; needed: `affine`, `mxfp4` or `nvfp4`",
    );
    says(
        mlx(),
        |_, c| c["quantization_config"]["m"] = json!(false),
        "tensor `m.weight`: `config.json` says `quantization_config.m` is not quantized, the tensors show codes with scales",
    );
    says(
        mlx(),
        |_, c| c["quantization_config"]["m"] = json!({"bits": 9, "group_size": 32}),
        "tensor `m.weight`: `config.json`: `quantization_config.m.bits` is 9; needed: 2, 3, 4, 5, 6 or 8",
    );
    says(
        mlx(),
        |_, c| c["quantization_config"]["m"] = json!({"bits": 8, "group_size": 32}),
        "tensor `m.weight`: `m.weight` needs U32 16x16 of int8 in groups of 32, has U32 16x8",
    );
}

#[test]
fn a_layer_of_its_own_scheme_is_read() {
    let (tensors, mut config) = sound(Format::Mlx);
    config["quantization_config"] =
        json!({"bits": 8, "group_size": 64, "m": {"bits": 4, "group_size": 32}, "lm_head": false});
    assert_eq!(open(&tensors, Some(&config)).unwrap(), 1);
}

#[test]
fn formats_that_only_their_configuration_tells() {
    let alone = |(tensors, _): (Tensors, Value)| open(&tensors, None).unwrap_err().to_string();
    let gptq = "GPTQ needs `config.json`, which tells whether it is AWQ, and how zero points are stored";
    assert_eq!(alone(sound(Format::Awq)), format!("tensor `m.qweight`: {gptq}"));
    assert_eq!(
        alone(sound(Format::Mlx)),
        "tensor `m.weight`: MLX affine needs `config.json`, which tells width and group size"
    );
    let squares = "FP8 with scales needs `config.json`, which tells the sides of the squares that share a scale";
    assert_eq!(alone(fp8()), format!("tensor `m.weight`: {squares}"));
    for (tensors, _) in [sound(Format::PackQuantized), sound(Format::IntQuantized), nf4(), mxfp4()] {
        assert_eq!(open(&tensors, None).unwrap(), 1);
    }
}

#[test]
fn parts_of_gptq() {
    let gptq = || sound(Format::Gptq);
    says(gptq(), |t, _| drop(t.all.remove("m.scales")), "tensor `m.qweight`: `m.scales` is not there");
    says(gptq(), |t, _| drop(t.all.remove("m.qzeros")), "tensor `m.qweight`: `m.qzeros` is not there");
    says(
        gptq(),
        |t, c| {
            t.all.remove("m.g_idx");
            c["quantization_config"]["desc_act"] = json!(true);
        },
        "tensor `m.qweight`: `m.g_idx` is not there",
    );
    says(
        gptq(),
        |t, _| zeros(t, "m.scales", Dtype::I32, &[2, 16]),
        "tensor `m.qweight`: `m.scales` needs F32, F16 or BF16, has I32 2x16",
    );
    says(
        gptq(),
        |t, _| zeros(t, "m.scales", Dtype::F16, &[16]),
        "tensor `m.qweight`: `m.scales` needs two dimensions, has F16 16",
    );
    says(
        gptq(),
        |t, _| zeros(t, "m.qzeros", Dtype::I32, &[1, 2]),
        "tensor `m.qweight`: `m.qzeros` needs I32 2x2, has I32 1x2",
    );
    says(
        gptq(),
        |t, _| zeros(t, "m.qweight", Dtype::I32, &[8, 15]),
        "tensor `m.qweight`: `m.qweight` needs I32 Nx16 of int4 codes, has I32 8x15",
    );
}

#[test]
fn groups_and_labels_of_gptq() {
    let gptq = || sound(Format::Gptq);
    says(
        gptq(),
        |t, _| zeros(t, "m.g_idx", Dtype::I32, &[63]),
        "tensor `m.qweight`: `m.g_idx` needs I32 64, has I32 63",
    );
    says(
        gptq(),
        |t, _| t.all.get_mut("m.g_idx").unwrap().2[20] = 2,
        "tensor `m.qweight`: input 5 is in group 2; there are 2",
    );
    says(
        gptq(),
        |t, _| t.all.get_mut("m.g_idx").unwrap().2[23] = 0x80,
        "tensor `m.qweight`: input 5 is in group -2147483648; there are 2",
    );
    says(
        gptq(),
        |_, c| c["quantization_config"]["group_size"] = json!(64),
        "tensor `m.qweight`: `config.json` says groups of 64, the tensors show 2 for 64 inputs",
    );
    says(
        gptq(),
        |_, c| c["quantization_config"]["bits"] = json!(8),
        "tensor `m.qweight`: `config.json` says 8 bits, the tensors show 4",
    );
    says(
        gptq(),
        |t, c| {
            t.all.get_mut("m.qzeros").unwrap().2.fill(0x88);
            c["quantization_config"]["sym"] = json!(true);
        },
        "tensor `m.qweight`: zero points are stored as they are, the label says less one",
    );
}

#[test]
fn parts_of_compressed_tensors() {
    let packed = || sound(Format::PackQuantized);
    says(
        packed(),
        |t, _| drop(t.all.remove("m.weight_scale")),
        "tensor `m.weight_packed`: `m.weight_scale` is not there",
    );
    says(
        packed(),
        |t, _| drop(t.all.remove("m.weight_shape")),
        "tensor `m.weight_packed`: `m.weight_shape` is not there",
    );
    says(
        packed(),
        |t, _| t.put("m.weight_shape", Dtype::I64, &[2], [16i64, -64].map(i64::to_le_bytes).concat()),
        "tensor `m.weight_packed`: `m.weight_shape` says 16x-64; needed: numbers from 0",
    );
    says(
        packed(),
        |t, _| zeros(t, "m.weight_scale", Dtype::BF16, &[16, 3]),
        "tensor `m.weight_packed`: `m.weight_scale` needs one number, 16, 16x1 or 16xN, has BF16 16x3",
    );
    says(
        packed(),
        |t, _| t.put("m.weight_shape", Dtype::I64, &[2], [16i64, 640].map(i64::to_le_bytes).concat()),
        "tensor `m.weight_packed`: `config.json` says int4, the tensors show 8 words for 640 codes",
    );
    says(
        packed(),
        |t, _| t.put("m.weight_shape", Dtype::I64, &[2], [i64::MAX, i64::MAX].map(i64::to_le_bytes).concat()),
        "tensor `m.weight_packed`: `m.weight_packed` needs a line for each of 9223372036854775807x9223372036854775807, has I32 16x8",
    );
    says(
        packed(),
        |t, _| zeros(t, "m.weight_zero_point", Dtype::I32, &[2, 3]),
        "tensor `m.weight_packed`: `m.weight_zero_point` needs I32 2x2, has I32 2x3",
    );
    says(
        packed(),
        |_, c| c["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = json!(128),
        "tensor `m.weight_packed`: `config.json` says groups of 128, the tensors show groups of 32 in rows of 64",
    );
    says(
        packed(),
        |t, _| {
            let index = [[0u32; 32], [7; 32]].concat().into_iter().flat_map(u32::to_le_bytes).collect();
            t.put("m.weight_g_idx", Dtype::I32, &[64], index);
        },
        "tensor `m.weight_packed`: input 32 is in group 7; there are 2",
    );
    says(
        sound(Format::IntQuantized),
        |t, _| zeros(t, "m.weight_zero_point", Dtype::I8, &[16]),
        "tensor `m.weight`: `m.weight_zero_point` needs I8 16x1, has I8 16",
    );
}

#[test]
fn codes_that_leave_bits_of_words_empty_are_refused() {
    // 64 codes of 3 bits: ten a word make seven words, the dense stream six.
    let mut tensors = Tensors::default();
    zeros(&mut tensors, "m.weight_packed", Dtype::I32, &[2, 7]);
    zeros(&mut tensors, "m.weight_scale", Dtype::BF16, &[2, 2]);
    tensors.put("m.weight_shape", Dtype::I64, &[2], [2i64, 64].map(i64::to_le_bytes).concat());
    let config = |version: &str| {
        let weights = json!({"num_bits": 3, "group_size": 32});
        let groups = json!({"g": {"targets": ["Linear"], "weights": weights}});
        json!({"quantization_config": {"quant_method": "compressed-tensors", "version": version, "config_groups": groups}})
    };
    let error = open(&tensors, Some(&config("0.17.0"))).unwrap_err();
    let message =
        "tensor `m.weight_packed`: int3 codes lie in the layout that leaves the top 2 bits of each word empty";
    assert_eq!(error.to_string(), message);
    assert_eq!(error.hint(), Some("make the checkpoint again with compressed-tensors 0.18 or later"));
    // Eleven codes take two words either way: the release tells.
    let mut short = Tensors::default();
    zeros(&mut short, "m.weight_packed", Dtype::I32, &[2, 2]);
    zeros(&mut short, "m.weight_scale", Dtype::BF16, &[2, 1]);
    short.put("m.weight_shape", Dtype::I64, &[2], [2i64, 11].map(i64::to_le_bytes).concat());
    let by_row = |version: &str| {
        let mut config = config(version);
        config["quantization_config"]["config_groups"]["g"]["weights"]["group_size"] = Value::Null;
        config
    };
    assert_eq!(open(&short, Some(&by_row("0.17.1"))).unwrap_err().to_string(), message);
    assert_eq!(open(&short, Some(&by_row("0.18.0"))).unwrap(), 1);
}

#[test]
fn parts_of_the_others() {
    says(
        nf4(),
        |t, _| zeros(t, "m.weight", Dtype::U8, &[79, 1]),
        "tensor `m.weight`: `m.weight` needs 80 bytes, has U8 79x1",
    );
    says(
        nf4(),
        |t, _| zeros(t, "m.weight.absmax", Dtype::U8, &[2]),
        "tensor `m.weight`: `m.weight.absmax` needs U8 3, has U8 2",
    );
    says(
        nf4(),
        |t, _| drop(t.all.remove("m.weight.nested_absmax")),
        "tensor `m.weight`: `m.weight.nested_absmax` is not there",
    );
    let state: Edit = |t, _| {
        let text = br#"{"quant_type":"nf4","blocksize":0,"shape":[10,16]}"#;
        t.put("m.weight.quant_state.bitsandbytes__nf4", Dtype::U8, &[text.len()], text.to_vec());
    };
    let part = "m.weight.quant_state.bitsandbytes__nf4";
    says(nf4(), state, &format!("tensor `m.weight`: `{part}` says `blocksize` 0; needed: `blocksize` a number from 1"));
    says(
        nf4(),
        |t, _| zeros(t, "m.weight.quant_state.bitsandbytes__nf4", Dtype::U8, &[3]),
        &format!("tensor `m.weight`: `{part}` says something else; needed: JSON"),
    );
    says(
        fp8(),
        |t, _| zeros(t, "m.weight_scale_inv", Dtype::F32, &[3, 2]),
        "tensor `m.weight`: `m.weight_scale_inv` needs one number, 20, 20x1 or 20xN, has F32 3x2",
    );
    says(
        fp8(),
        |_, c| c["quantization_config"]["weight_block_size"] = json!([16, 0]),
        "`config.json`: `quantization_config.weight_block_size` is a list; needed: two numbers from 1",
    );
    says(
        mxfp4(),
        |t, _| zeros(t, "e.gate_scales", Dtype::U8, &[2, 3, 3]),
        "tensor `e.gate_blocks`: `e.gate_scales` needs 2x3x4, has U8 2x3x3",
    );
    says(
        mxfp4(),
        |t, _| zeros(t, "e.gate_blocks", Dtype::U8, &[2, 3, 4, 8]),
        "tensor `e.gate_blocks`: `e.gate_blocks` needs groups of 16 bytes, has U8 2x3x4x8",
    );
    says(
        nf4(),
        |t, _| {
            zeros(t, "n.weight", Dtype::I8, &[4, 4]);
            zeros(t, "n.SCB", Dtype::F32, &[4]);
        },
        "tensor `n.weight`: bitsandbytes LLM.int8 is not read here",
    );
}

#[test]
fn plain_checkpoints_hold_nothing() {
    let mut tensors = Tensors::default();
    zeros(&mut tensors, "m.weight", Dtype::BF16, &[8, 8]);
    zeros(&mut tensors, "m.scales", Dtype::F32, &[8]);
    assert_eq!(open(&tensors, None).unwrap(), 0);
    assert_eq!(open(&tensors, Some(&json!({"model_type": "llama"}))).unwrap(), 0);
    let unknown = json!({"quantization_config": {"quant_method": "hqq"}});
    assert_eq!(open(&tensors, Some(&unknown)).unwrap(), 0);
    zeros(&mut tensors, "m.W_q", Dtype::U8, &[8, 8]);
    assert!(open(&tensors, Some(&unknown)).unwrap_err().to_string().contains("`quant_method` is `hqq`"));
}

#[test]
fn what_belongs_to_no_codes_is_listed() {
    let (mut tensors, config) = sound(Format::IntQuantized);
    zeros(&mut tensors, "m.input_scale", Dtype::F32, &[1]);
    zeros(&mut tensors, "norm.input_scale", Dtype::F32, &[1]);
    let inventory = tensors.inventory();
    let imported = Imported::of(&inventory, Some(&config)).unwrap().unwrap();
    assert_eq!(imported.plain(), ["m.bias", "norm.input_scale"]);
    assert_eq!(imported.activations(), ["m.input_scale"]);
    let parts: Vec<&str> = imported.tensors()[0].parts().iter().map(|part| part.name()).collect();
    assert_eq!(parts, ["m.weight", "m.weight_scale", "m.weight_zero_point"]);
}
