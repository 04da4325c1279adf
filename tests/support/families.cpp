#include "tests/support/families.h"

#include <cmath>

#include "format/mistral_params.h"

namespace sluice::tests {
namespace {

using namespace format;

struct Sizes {
  std::uint64_t width;
  std::uint64_t vocabulary;
  double epsilon;
};

ModelDescription make_model(const Sizes& sizes) {
  ModelDescription model;
  model.width = sizes.width;
  model.vocabulary = sizes.vocabulary;
  model.norm.epsilon = sizes.epsilon;
  return model;
}

Rope half_split(std::uint64_t rotary_dims, double base) {
  return {.style = RopeStyle::half_split, .rotary_dims = rotary_dims, .base = base, .scaling = {}};
}

GroupedQueryAttention attention(std::uint64_t heads, std::uint64_t key_heads, std::uint64_t head_dim,
                                double rope_base) {
  GroupedQueryAttention mixer;
  mixer.heads = heads;
  mixer.key_heads = key_heads;
  mixer.head_dim = head_dim;
  mixer.rope = half_split(head_dim, rope_base);
  return mixer;
}

Mixture mixture(std::uint64_t experts, std::uint64_t experts_per_token, std::uint64_t width) {
  Mixture mixture;
  mixture.experts = experts;
  mixture.experts_per_token = experts_per_token;
  mixture.width = width;
  return mixture;
}

/// DeepSeek-V3's router: sigmoid scores, a bias for choosing, renormalised weights.
Router sigmoid_router(double scale = 1) {
  Router router;
  router.score = RouterScore::sigmoid;
  router.renormalise = true;
  router.selection_bias = true;
  router.scale = scale;
  return router;
}

LayerDescription routed(Mixer mixer, Mixture mixture) {
  return {std::move(mixer), {.dense = {}, .mixture = std::move(mixture)}};
}

LayerDescription dense(Mixer mixer, std::uint64_t width) {
  return {std::move(mixer), {.dense = DenseFeedForward{width}, .mixture = {}}};
}

MistralParams mixtral_params() {
  MistralParams params;
  params.dim = 4096;
  params.n_layers = 32;
  params.head_dim = 128;
  params.hidden_dim = 14336;
  params.n_heads = 32;
  params.n_kv_heads = 8;
  params.vocab_size = 32000;
  params.num_experts = 8;
  params.num_experts_per_tok = 2;
  return params;
}

MistralParams mixtral_8x22b_params() {
  MistralParams params = mixtral_params();
  params.dim = 6144;
  params.n_layers = 56;
  params.hidden_dim = 16384;
  params.n_heads = 48;
  return params;
}

/// The release in pickles has no configuration: xai-org/grok-1, run.py.
ModelDescription grok_1() {
  ModelDescription model = make_model({6144, 131072, 1e-5});
  model.activation = GeluTanh{};
  model.tied_embeddings = true;
  model.embedding_scale = 78.38367176906169;
  model.logits_scale = 0.5773502691896257;
  auto mixer = attention(48, 8, 128, 1e4);
  mixer.scale = 0.08838834764831845;
  mixer.soft_cap = 30;
  LayerDescription layer = routed(mixer, mixture(8, 2, 32768));
  layer.post_norms = true;
  model.add_layers(64, layer);
  return model;
}

ModelDescription mistral_7b() {
  MistralParams params = mixtral_params();
  params.num_experts = params.num_experts_per_tok = 0;
  params.sliding_window = 4096;
  params.rope_theta = 1e4;
  return describe(params);
}

ModelDescription qwen3_moe() {
  ModelDescription model = make_model({2048, 151936, 1e-6});
  auto mixer = attention(32, 4, 128, 1e6);
  mixer.query_key_norm = QueryKeyNorm::per_head;
  auto experts = mixture(128, 8, 768);
  experts.router.renormalise = true;
  model.add_layers(48, routed(mixer, experts));
  return model;
}

ModelDescription qwen15_moe() {
  ModelDescription model = make_model({2048, 151936, 1e-6});
  auto mixer = attention(16, 16, 128, 1e6);
  mixer.input_biases = true;
  auto experts = mixture(60, 4, 1408);
  experts.shared = SharedExpert{5632, true};
  model.add_layers(24, routed(mixer, experts));
  return model;
}

ModelDescription olmoe() {
  ModelDescription model = make_model({2048, 50304, 1e-5});
  auto mixer = attention(16, 16, 128, 1e4);
  mixer.query_key_norm = QueryKeyNorm::full_width;
  model.add_layers(16, routed(mixer, mixture(64, 8, 1024)));
  return model;
}

ModelDescription granite() {
  ModelDescription model = make_model({1024, 49155, 1e-6});
  model.tied_embeddings = true;
  model.embedding_scale = 12;
  model.residual_scale = 0.22;
  model.logits_scale = 1.0 / 6;
  auto mixer = attention(16, 8, 64, 1e4);
  mixer.scale = 0.015625;
  auto experts = mixture(32, 8, 512);
  experts.router.renormalise = true;
  model.add_layers(24, routed(mixer, experts));
  return model;
}

ModelDescription glm45_air() {
  ModelDescription model = make_model({4096, 151552, 1e-5});
  auto mixer = attention(96, 8, 128, 1e6);
  mixer.input_biases = true;
  mixer.rope = half_split(64, 1e6);
  auto experts = mixture(128, 8, 1408);
  experts.router = sigmoid_router();
  experts.shared = SharedExpert{1408, false};
  model.add_layers(1, dense(mixer, 10944));
  model.add_layers(45, routed(mixer, experts));
  return model;
}

ModelDescription minimax_m2() {
  ModelDescription model = make_model({3072, 200064, 1e-6});
  auto mixer = attention(48, 8, 128, 5e6);
  mixer.query_key_norm = QueryKeyNorm::full_width;
  mixer.rope = half_split(64, 5e6);
  auto experts = mixture(256, 8, 1536);
  experts.router = sigmoid_router();
  model.add_layers(62, routed(mixer, experts));
  return model;
}

ModelDescription gpt_oss() {
  ModelDescription model = make_model({2880, 201088, 1e-5});
  model.activation = ClampedSwiglu{};
  auto full = attention(64, 8, 64, 150000);
  full.input_biases = full.output_bias = true;
  full.sinks = true;
  full.rope->scaling = YarnScaling{.factor = 32,
                                   .original_context_tokens = 4096,
                                   .round_ramp = false,
                                   .cos_sin_factor = 0.1 * std::log(32.0) + 1};
  auto sliding = full;
  sliding.window_tokens = 128;
  auto experts = mixture(32, 4, 2880);
  experts.expert_biases = true;
  experts.router.renormalise = true;
  experts.router.logit_bias = true;
  for (int pair = 0; pair < 12; ++pair) {
    model.add_layers(1, routed(sliding, experts));
    model.add_layers(1, routed(full, experts));
  }
  return model;
}

LatentAttention latent_attention(std::uint64_t heads, double rope_base) {
  LatentAttention mixer;
  mixer.heads = heads;
  mixer.latent_rank = 512;
  mixer.plain_dims = 128;
  mixer.value_dims = 128;
  mixer.rope = {.style = RopeStyle::interleaved, .rotary_dims = 64, .base = rope_base, .scaling = {}};
  return mixer;
}

/// DeepSeek's YaRN, whose magnitude enters the scores squared.
void stretch(LatentAttention& mixer, const YarnScaling& yarn, double mscale) {
  mixer.latent_norm_epsilon = 1e-6;
  mixer.rope.scaling = yarn;
  const double magnitude = 0.1 * mscale * std::log(yarn.factor) + 1;
  mixer.scale = magnitude * magnitude / std::sqrt(192.0);
}

ModelDescription deepseek_v2_lite() {
  ModelDescription model = make_model({2048, 102400, 1e-6});
  auto mixer = latent_attention(16, 1e4);
  stretch(mixer, {.factor = 40, .original_context_tokens = 4096}, 0.707);
  auto experts = mixture(64, 6, 1408);
  experts.shared = SharedExpert{2816, false};
  model.add_layers(1, dense(mixer, 10944));
  model.add_layers(26, routed(mixer, experts));
  return model;
}

ModelDescription deepseek_v2() {
  ModelDescription model = make_model({5120, 102400, 1e-6});
  auto mixer = latent_attention(128, 1e4);
  mixer.query_rank = 1536;
  stretch(mixer, {.factor = 40, .original_context_tokens = 4096}, 0.707);
  auto experts = mixture(160, 6, 1536);
  experts.router.groups = RouterGroups{8, 3, GroupScore::best};
  experts.router.scale = 16;
  experts.shared = SharedExpert{3072, false};
  model.add_layers(1, dense(mixer, 12288));
  model.add_layers(59, routed(mixer, experts));
  return model;
}

ModelDescription deepseek_v3() {
  ModelDescription model = make_model({7168, 129280, 1e-6});
  auto mixer = latent_attention(128, 1e4);
  mixer.query_rank = 1536;
  stretch(mixer, {.factor = 40, .original_context_tokens = 4096}, 1);
  auto experts = mixture(256, 8, 2048);
  experts.router = sigmoid_router(2.5);
  experts.router.groups = RouterGroups{8, 4, GroupScore::best_two};
  experts.shared = SharedExpert{2048, false};
  model.add_layers(3, dense(mixer, 18432));
  model.add_layers(58, routed(mixer, experts));
  return model;
}

ModelDescription kimi_k2() {
  ModelDescription model = make_model({7168, 163840, 1e-6});
  auto mixer = latent_attention(64, 5e4);
  mixer.query_rank = 1536;
  stretch(mixer, {.factor = 32, .original_context_tokens = 4096, .beta_fast = 1}, 1);
  auto experts = mixture(384, 8, 2048);
  experts.router = sigmoid_router(2.827);
  experts.shared = SharedExpert{2048, false};
  model.add_layers(1, dense(mixer, 18432));
  model.add_layers(60, routed(mixer, experts));
  return model;
}

ModelDescription mistral_small_4() {
  ModelDescription model = make_model({4096, 131072, 1e-6});
  auto mixer = latent_attention(32, 1e4);
  mixer.query_rank = 1024;
  mixer.latent_rank = 256;
  mixer.plain_dims = 64;
  mixer.latent_norm_epsilon = 1e-6;
  mixer.rope.scaling = YarnScaling{.factor = 128, .original_context_tokens = 8192};
  mixer.query_temperature = QueryTemperature{0.1, 8192};
  auto experts = mixture(128, 4, 2048);
  experts.router.renormalise = true;
  experts.shared = SharedExpert{2048, false};
  model.add_layers(36, routed(mixer, experts));
  return model;
}

ModelDescription glm47_flash() {
  ModelDescription model = make_model({2048, 154880, 1e-5});
  auto mixer = latent_attention(20, 1e6);
  mixer.query_rank = 768;
  mixer.plain_dims = 192;
  mixer.value_dims = 256;
  auto experts = mixture(64, 4, 1536);
  experts.router = sigmoid_router(1.8);
  experts.shared = SharedExpert{1536, false};
  model.add_layers(1, dense(mixer, 10240));
  model.add_layers(46, routed(mixer, experts));
  return model;
}

ModelDescription qwen36() {
  ModelDescription model = make_model({2048, 248320, 1e-6});
  model.norm.weights = NormWeights::plus_one;
  GatedDeltaNet delta;
  delta.key_heads = 16;
  delta.value_heads = 32;
  delta.key_dim = delta.value_dim = 128;
  delta.convolution_tokens = 4;
  auto full = attention(16, 2, 256, 1e7);
  full.rope = half_split(64, 1e7);
  full.query_key_norm = QueryKeyNorm::per_head;
  full.output_gate = true;
  auto experts = mixture(256, 8, 512);
  experts.router.renormalise = true;
  experts.shared = SharedExpert{512, true};
  for (int group = 0; group < 10; ++group) {
    model.add_layers(3, routed(delta, experts));
    model.add_layers(1, routed(full, experts));
  }
  return model;
}

ModelDescription gemma4() {
  ModelDescription model = make_model({2816, 262144, 1e-6});
  model.activation = GeluTanh{};
  model.tied_embeddings = true;
  model.embedding_scale = std::sqrt(2816.0);
  model.final_soft_cap = 30;
  auto sliding = attention(16, 8, 256, 1e4);
  sliding.query_key_norm = QueryKeyNorm::per_head;
  sliding.value_norm = true;
  sliding.scale = 1;
  auto full = sliding;
  sliding.window_tokens = 1024;
  full.key_heads = 2;
  full.head_dim = 512;
  full.keys_are_values = true;
  full.rope = half_split(512, 1e6);
  full.rope->scaling = ProportionalScaling{128};
  auto experts = mixture(128, 8, 704);
  experts.router.renormalise = true;
  experts.router.own_input = true;
  const FeedForward both{.dense = DenseFeedForward{2112}, .mixture = experts};
  for (int group = 0; group < 5; ++group) {
    model.add_layers(5, {.mixer = sliding, .feed_forward = both, .post_norms = true, .output_scale = true});
    model.add_layers(1, {.mixer = full, .feed_forward = both, .post_norms = true, .output_scale = true});
  }
  return model;
}

ModelDescription lfm2() {
  ModelDescription model = make_model({2048, 65536, 1e-5});
  model.tied_embeddings = true;
  auto full = attention(32, 8, 64, 1e6);
  full.query_key_norm = QueryKeyNorm::per_head;
  const ShortConvolution convolution{3};
  auto experts = mixture(32, 4, 1792);
  experts.router = sigmoid_router();
  experts.router.renormalise_epsilon = 1e-6;
  model.add_layers(2, dense(convolution, 7168));
  for (const std::uint64_t convolutions : {3, 3, 3, 3, 2}) {
    model.add_layers(1, routed(full, experts));
    model.add_layers(convolutions, routed(convolution, experts));
  }
  model.add_layers(1, routed(full, experts));
  model.add_layers(2, routed(convolution, experts));
  return model;
}

}  // namespace

std::vector<Family> families() {
  return {{"Mixtral-8x7B", 46.70, describe(mixtral_params())},
          {"Mixtral-8x22B", 140.62, describe(mixtral_8x22b_params())},
          {"Grok-1", 315.68, grok_1()},
          {"Mistral-7B", 7.24, mistral_7b()},
          {"Qwen3-30B-A3B", 30.53, qwen3_moe()},
          {"Qwen1.5-MoE-A2.7B", 14.32, qwen15_moe()},
          {"OLMoE-1B-7B", 6.92, olmoe()},
          {"Granite-3-1b-a400m", 1.33, granite()},
          {"GLM-4.5-Air", 106.85, glm45_air()},
          {"MiniMax-M2.7", 228.69, minimax_m2()},
          {"gpt-oss-20b", 20.91, gpt_oss()},
          {"DeepSeek-V2-Lite", 15.71, deepseek_v2_lite()},
          {"DeepSeek-V2", 235.74, deepseek_v2()},
          {"DeepSeek-V3", 671.03, deepseek_v3()},
          {"Kimi-K2", 1026.41, kimi_k2()},
          {"GLM-4.7-Flash", 29.94, glm47_flash()},
          {"Mistral-Small-4-119B", 118.97, mistral_small_4()},
          {"Qwen3.6-35B-A3B", 34.66, qwen36()},
          {"Gemma-4-26B-A4B", 25.23, gemma4()},
          {"LFM2-8B-A1B", 8.34, lfm2()}};
}

}  // namespace sluice::tests
