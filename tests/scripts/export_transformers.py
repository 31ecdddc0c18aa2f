"""Exports small models of many kinds, with random weights, as ONNX by either exporter of PyTorch.

    python3 tests/scripts/export_transformers.py FOLDER [NAME ...]
    for f in FOLDER/*.onnx; do python3 tests/scripts/compare_onnx.py $f --below input_ids=90; done

Writes NAME.onnx (by tracing, opset 17) and NAME.d.onnx (by torch.export, opset 18), and says of each whether PyTorch
could export it. Needs torch, transformers, onnx and onnxscript.
"""

import sys
import warnings
from pathlib import Path

import torch
import transformers as hf

WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES = {**WIDE, "intermediate_size": 64}
TEXT = {**SIZES, "vocab_size": 100}
CAUSAL = {**TEXT, "use_cache": False}
BOTH = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 100}
PATCHES = {**SIZES, "image_size": 64, "patch_size": 16}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
WINDOWS = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
WAVES = {**SIZES, "conv_dim": [16] * 3, "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 3],
         "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
T5 = {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64, "vocab_size": 100}

ids, ones = torch.arange(12)[None] * 7 % 87 + 3, torch.ones(1, 12, dtype=torch.int64)
image = torch.linspace(-2, 2, 3 * 64 * 64).sin().reshape(1, 3, 64, 64)
wave = torch.linspace(0, 300, 2000).sin()[None]
IMAGE = {"pixel_values": image}
IDS, MASKED = {"input_ids": ids}, {"input_ids": ids, "attention_mask": ones}

# Name: the model's class, that of its configuration, what it is configured by, and its inputs.
MODELS = {
    "vit": ("ViTModel", "ViTConfig", PATCHES, IMAGE),
    "swin": ("SwinModel", "SwinConfig", WINDOWS, IMAGE),
    "swinv2": ("Swinv2Model", "Swinv2Config", WINDOWS, IMAGE),
    "convnext": ("ConvNextModel", "ConvNextConfig", STAGES, IMAGE),
    "segformer": ("SegformerForSemanticSegmentation", "SegformerConfig",
                  {**STAGES, "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 16}, IMAGE),
    "mobilevit": ("MobileViTModel", "MobileViTConfig",
                  {"image_size": 64, "hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64]},
                  IMAGE),
    "resnet": ("ResNetModel", "ResNetConfig", {"embedding_size": 8, **STAGES}, IMAGE),
    "regnet": ("RegNetModel", "RegNetConfig", {"embedding_size": 8, **STAGES, "groups_width": 8}, IMAGE),
    "mobilenetv2": ("MobileNetV2Model", "MobileNetV2Config", {"image_size": 64, "depth_multiplier": 0.35}, IMAGE),
    "poolformer": ("PoolFormerModel", "PoolFormerConfig", STAGES, IMAGE),
    "pvt": ("PvtModel", "PvtConfig", {"image_size": 64, **STAGES, "num_attention_heads": [1, 2, 2, 4]}, IMAGE),
    "levit": ("LevitModel", "LevitConfig", {"image_size": 64, "hidden_sizes": [16, 24, 32], "depths": [1] * 3,
                                            "num_attention_heads": [2] * 3, "key_dim": [8] * 3}, IMAGE),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", PATCHES, IMAGE),
    "dinov2": ("Dinov2Model", "Dinov2Config", {**WIDE, "image_size": 64, "patch_size": 16}, IMAGE),
    "beit": ("BeitModel", "BeitConfig", {**PATCHES, "use_relative_position_bias": True}, IMAGE),
    "yolos": ("YolosForObjectDetection", "YolosConfig",
              {**PATCHES, "image_size": [64, 64], "num_detection_tokens": 5}, IMAGE),
    "dpt": ("DPTForDepthEstimation", "DPTConfig",
            {**PATCHES, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "fusion_hidden_size": 16,
             "neck_hidden_sizes": [8, 16, 24, 32], "is_hybrid": False}, IMAGE),
    "swin2sr": ("Swin2SRForImageSuperResolution", "Swin2SRConfig",
                {"image_size": 32, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4,
                 "upscale": 2}, {"pixel_values": image[..., :32, :32].contiguous()}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config",
             {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "use_cache": False}, IDS),
    "opt": ("OPTForCausalLM", "OPTConfig", {**WIDE, "ffn_dim": 64, "vocab_size": 100, "word_embed_proj_dim": 32,
                                            "use_cache": False}, MASKED),
    "bloom": ("BloomModel", "BloomConfig",
              {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "use_cache": False}, MASKED),
    "neox": ("GPTNeoXModel", "GPTNeoXConfig", CAUSAL, IDS),
    "phi": ("PhiModel", "PhiConfig", CAUSAL, IDS),
    "llama": ("LlamaModel", "LlamaConfig", {**CAUSAL, "num_key_value_heads": 2}, IDS),
    "mamba": ("MambaModel", "MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100,
                                            "state_size": 4, "use_cache": False}, IDS),
    "deberta": ("DebertaV2Model", "DebertaV2Config", {**TEXT, "relative_attention": True, "position_buckets": 8,
                                                      "pos_att_type": ["p2c", "c2p"]}, MASKED),
    "albert": ("AlbertModel", "AlbertConfig", {**TEXT, "embedding_size": 16}, MASKED),
    "electra": ("ElectraModel", "ElectraConfig", {**TEXT, "embedding_size": 16}, MASKED),
    "mpnet": ("MPNetModel", "MPNetConfig", TEXT, MASKED),
    "squeezebert": ("SqueezeBertModel", "SqueezeBertConfig", {**TEXT, "embedding_size": 32}, MASKED),
    "convbert": ("ConvBertModel", "ConvBertConfig", {**TEXT, "embedding_size": 16}, MASKED),
    "roformer": ("RoFormerModel", "RoFormerConfig", TEXT, IDS),
    "longformer": ("LongformerModel", "LongformerConfig", {**TEXT, "attention_window": 4}, IDS),
    "funnel": ("FunnelModel", "FunnelConfig", {"vocab_size": 100, "block_sizes": [1, 1], "d_model": 32, "n_head": 4,
                                               "d_head": 8, "d_inner": 64}, MASKED),
    "xlnet": ("XLNetModel", "XLNetConfig",
              {"vocab_size": 100, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, IDS),
    "t5-encoder": ("T5EncoderModel", "T5Config", T5, IDS),
    "t5": ("T5Model", "T5Config", {**T5, "use_cache": False}, {**MASKED, "decoder_input_ids": ids}),
    "bart": ("BartModel", "BartConfig", {**BOTH, "use_cache": False}, {**MASKED, "decoder_input_ids": ids}),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", WAVES, {"input_values": wave}),
    "hubert": ("HubertModel", "HubertConfig", WAVES, {"input_values": wave}),
    "ast": ("ASTModel", "ASTConfig", {**SIZES, "max_length": 64, "num_mel_bins": 32},
            {"input_values": image[0, :1, :, :32].contiguous()}),
    "hifigan": ("SpeechT5HifiGan", "SpeechT5HifiGanConfig",
                {"model_in_dim": 20, "upsample_initial_channel": 32, "upsample_rates": [4, 4],
                 "upsample_kernel_sizes": [8, 8]}, {"spectrogram": image[0, 0, :10, :20].contiguous()[None]}),
}


class Placed(torch.nn.Module):
    """A model whose inputs have places instead of names, and one output."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        outputs = self.model(**dict(zip(self.names, inputs)), return_dict=False)
        return outputs[0] if isinstance(outputs, tuple) else outputs


def main(folder, names):
    warnings.filterwarnings("ignore")
    for name in names or MODELS:
        model, config, sizes, inputs = MODELS[name]
        torch.manual_seed(0)
        model = getattr(hf, model)(getattr(hf, config)(**sizes)).eval()
        model.config._attn_implementation = "eager"
        placed = Placed(model, list(inputs)).eval()
        for suffix, how in ((".onnx", {"dynamo": False, "opset_version": 17}),
                            (".d.onnx", {"dynamo": True, "opset_version": 18, "verbose": False})):
            try:
                torch.onnx.export(placed, tuple(inputs.values()), Path(folder, name + suffix), input_names=list(inputs),
                                  **how)
                print(f"{name}{suffix}", flush=True)
            except Exception as error:  # whatever PyTorch cannot export
                print(f"{name}{suffix}: not exported, {type(error).__name__}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
