// Makes descriptions, weights and containers for tests. Random choices come from a generator of the caller,
// so a test repeats itself; the values of a tensor come from its name and a seed. Containers are written
// tensor by tensor with the encoder of conversions, without a release and without convert's pipeline. One
// thread.

#include "tests/runtime/described_model.h"

#include <cmath>
#include <span>

#include "base/file.h"
#include "convert/panel_encoder.h"
#include "convert/plan.h"
#include "format/container_writer.h"
#include "format/model_tensors.h"
#include "format/tensor.h"
#include "tests/support/tiny_release.h"

namespace sluice::tests {
namespace {

using namespace format;

/// Random choices for a description.
class Chooser final {
 public:
  explicit Chooser(std::mt19937_64& random) : random_(random) {}

  std::uint64_t from(std::uint64_t low, std::uint64_t high) { return low + random_() % (high - low + 1); }
  bool once_in(std::uint64_t n) { return random_() % n == 0; }
  double between(double low, double high) {
    return low + (high - low) * static_cast<double>(random_() % 1000) / 1000;
  }

  RopeScaling scaling(std::uint64_t rotary_dims) {
    switch (from(0, 5)) {
      case 0: return YarnScaling{between(2, 40), from(16, 64), 8, 1, once_in(2), between(1, 1.4)};
      case 1: return Llama3Scaling{between(2, 8), from(16, 64), 1, 4};
      case 2: return LinearScaling{between(1, 4)};
      case 3: return ProportionalScaling{2 * from(1, rotary_dims / 2)};
      default: return NoRopeScaling{};
    }
  }

  Activation activation() {
    switch (from(0, 3)) {
      case 0: return GeluTanh{};
      case 1: return ClampedSwiglu{between(1, 2), between(0.3, 3)};
      default: return Silu{};
    }
  }

  GroupedQueryAttention attention() {
    GroupedQueryAttention a;
    a.key_heads = from(1, 3);
    a.heads = a.key_heads * from(1, 5);
    a.head_dim = 2 * from(2, 30);
    if (once_in(3)) a.window_tokens = from(3, 40);
    a.input_biases = once_in(3);
    a.output_bias = once_in(4);
    a.query_key_norm = static_cast<QueryKeyNorm>(from(0, 2));
    if (once_in(3)) a.scale = between(0.05, 0.5);
    if (once_in(3)) a.clip = between(0.5, 2);
    a.value_norm = once_in(4);
    a.keys_are_values = once_in(4);
    a.sinks = once_in(3);
    a.output_gate = once_in(3);
    if (once_in(3)) a.soft_cap = between(0.5, 5);
    if (once_in(3)) a.query_temperature = QueryTemperature{between(0.1, 0.5), from(5, 20)};
    const std::uint64_t rotary_dims = once_in(2) ? a.head_dim : 2 * from(1, a.head_dim / 2);
    const auto style = once_in(2) ? RopeStyle::half_split : RopeStyle::interleaved;
    if (!once_in(8)) a.rope = Rope{style, rotary_dims, once_in(2) ? 1e4 : 1e6, scaling(rotary_dims)};
    return a;
  }

  LatentAttention latent_attention() {
    LatentAttention a;
    a.heads = from(1, 7);
    if (once_in(2)) a.query_rank = from(9, 150);
    a.latent_rank = from(9, 150);
    a.plain_dims = from(3, 80);
    a.value_dims = from(3, 80);
    if (once_in(2)) a.latent_norm_epsilon = between(1e-3, 0.5);
    if (once_in(2)) a.scale = between(0.05, 0.5);
    const std::uint64_t rotary_dims = 2 * from(1, 20);
    const auto style = once_in(3) ? RopeStyle::half_split : RopeStyle::interleaved;
    a.rope = Rope{style, rotary_dims, once_in(2) ? 1e4 : 1e6, scaling(rotary_dims)};
    if (once_in(3)) a.query_temperature = QueryTemperature{between(0.1, 1), from(3, 20)};
    return a;
  }

  GatedDeltaNet delta_net() {
    GatedDeltaNet net;
    net.key_heads = from(1, 3);
    net.value_heads = net.key_heads * from(1, 3);
    net.key_dim = from(2, 40);
    net.value_dim = from(2, 90);
    net.convolution_tokens = from(1, 5);
    net.inputs = once_in(2) ? DeltaInputs::separate : DeltaInputs::packed;
    return net;
  }

  Mixer mixer() {
    if (once_in(4)) return delta_net();
    if (once_in(6)) return ShortConvolution{from(1, 5)};
    if (once_in(3)) return latent_attention();
    return attention();
  }

  Router router(std::uint64_t experts, std::uint64_t& experts_per_token) {
    Router r;
    r.score = once_in(2) ? RouterScore::softmax : RouterScore::sigmoid;
    r.renormalise = once_in(2);
    if (r.renormalise && once_in(3)) r.renormalise_epsilon = between(1e-6, 1e-2);
    r.logit_bias = once_in(3);
    r.selection_bias = once_in(2);
    if (once_in(2)) r.scale = between(0.5, 3);
    r.own_input = once_in(4);
    for (const std::uint64_t groups : {2, 3, 5}) {
      if (experts % groups != 0 || experts / groups < 2 || !once_in(2)) continue;
      r.groups = RouterGroups{groups, from(1, groups), once_in(2) ? GroupScore::best : GroupScore::best_two};
      experts_per_token = from(1, experts / groups * r.groups->kept);
      break;
    }
    return r;
  }

  FeedForward feed_forward() {
    if (once_in(4)) return {DenseFeedForward{from(17, 300)}, {}};
    Mixture m;
    m.experts = from(1, 20);
    m.experts_per_token = from(1, m.experts);
    m.width = from(17, 200);
    m.router = router(m.experts, m.experts_per_token);
    m.expert_biases = once_in(3);
    if (once_in(2)) m.shared = SharedExpert{from(17, 250), once_in(2)};
    if (once_in(4)) return {DenseFeedForward{from(17, 250)}, m};
    return {{}, m};
  }

 private:
  std::mt19937_64& random_;
};

/// Whether the tensor holds factors, which are near 1.
bool is_factors(TensorRole role) {
  switch (role) {
    case TensorRole::mixer_norm:
    case TensorRole::mixer_post_norm:
    case TensorRole::feed_forward_norm:
    case TensorRole::feed_forward_post_norm:
    case TensorRole::experts_norm:
    case TensorRole::experts_post_norm:
    case TensorRole::dense_post_norm:
    case TensorRole::final_norm:
    case TensorRole::query_norm:
    case TensorRole::key_norm:
    case TensorRole::query_latent_norm:
    case TensorRole::key_value_latent_norm:
    case TensorRole::delta_norm:
    case TensorRole::router_expert_scale:
    case TensorRole::output_scale: return true;
    default: return false;
  }
}

/// A router's own input is divided by the root of its width, and released factors undo that.
float mean_of(const ModelTensor& tensor) {
  if (tensor.role == TensorRole::router_input_scale) return std::sqrt(static_cast<float>(tensor.shape[0]));
  return is_factors(tensor.role) ? 1.0f : 0.0f;
}

std::vector<float> random_values(const ModelTensor& tensor, std::uint64_t seed) {
  std::uint64_t hash = 0xCBF29CE484222325u ^ seed;  // FNV-1a
  for (const char c : tensor.name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  std::mt19937_64 random(hash);
  const bool row = tensor.shape.size() == 1;
  const float mean = mean_of(tensor);
  const float deviation = row ? 0.15f : 1 / std::sqrt(static_cast<float>(tensor.shape[1]));
  std::vector<float> values(static_cast<std::size_t>(element_count(tensor.shape).value()));
  for (float& value : values) {
    // Roughly normal: the sum of 4 numbers that are uniform in [-1/2, 1/2), times the root of 3.
    std::uint64_t bits = random();
    double sum = -2;
    for (int part = 0; part < 4; ++part, bits >>= 16) sum += static_cast<double>(bits & 0xFFFF) * 0x1p-16;
    value = mean + deviation * static_cast<float>(sum * 1.7320508);
    if (!row) value = bf16_to_f32(f32_to_bf16(value));
  }
  return values;
}

template <typename T>
void append(std::vector<std::byte>& to, const T& from) {
  const auto bytes = std::as_bytes(std::span(from));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

std::vector<std::byte> encode_tiles(const TileLayout& layout, std::span<const float> values) {
  convert::PanelEncoder encoder;
  std::vector<std::byte> codes(layout.panels * layout.panel_code_bytes), magnitudes, signs, scales;
  for (std::size_t p = 0; p < layout.panels; ++p) {
    convert::EncodedPanel panel;
    panel.begin(layout);
    const base::MutableBytes of_panel =
        base::MutableBytes(codes).subspan(p * layout.panel_code_bytes, layout.panel_code_bytes);
    for (std::size_t strip = 0; strip < convert::kPanelStrips; ++strip) {
      const std::uint64_t first =
          std::min(layout.rows, p * kPanelRows + std::uint64_t{strip} * convert::kStripRows);
      const std::uint64_t rows = std::min<std::uint64_t>(convert::kStripRows, layout.rows - first);
      encoder.encode(layout, strip, values.subspan(first * layout.cols, rows * layout.cols), of_panel, panel);
    }
    append(magnitudes, panel.magnitudes);
    append(signs, panel.signs);
    append(scales, panel.row_scales);
  }
  std::vector<std::byte> all = std::move(codes);
  if (layout.type == TileType::bf16) return all;
  all.resize(layout.magnitudes_offset_bytes);
  append(all, magnitudes);
  append(all, signs);
  all.resize(layout.row_scales_offset_bytes);
  append(all, scales);
  return all;
}

std::vector<std::byte> encode(Storage storage, const Shape& shape, std::span<const float> values) {
  std::vector<std::byte> bytes;
  if (is_tiled(storage)) return encode_tiles({tile_type(storage), shape[0], shape[1]}, values);
  if (storage == Storage::f32_rows) {
    append(bytes, values);
    return bytes;
  }
  std::vector<std::uint16_t> halves;
  for (const float value : values) halves.push_back(f32_to_bf16(value));
  append(bytes, halves);
  return bytes;
}

}  // namespace

ModelDescription random_description(std::mt19937_64& random) {
  Chooser choose(random);
  ModelDescription model;
  model.width = choose.from(17, 150);
  model.vocabulary = choose.from(kTinyVocab, kTinyVocab + 100);
  model.norm.epsilon = choose.once_in(2) ? 1e-5 : 1e-6;
  if (choose.once_in(4)) model.norm.weights = NormWeights::plus_one;
  model.tied_embeddings = choose.once_in(3);
  if (choose.once_in(3)) model.embedding_scale = choose.between(2, 12);
  if (choose.once_in(3)) model.residual_scale = choose.between(0.2, 1);
  if (choose.once_in(3)) model.logits_scale = choose.between(0.1, 1);
  model.activation = choose.activation();
  if (choose.once_in(3)) model.final_soft_cap = choose.between(1, 5);
  const std::uint64_t kinds = choose.from(1, 3);
  std::vector<LayerDescription> all;
  for (std::uint64_t kind = 0; kind < kinds; ++kind)
    all.push_back({choose.mixer(), choose.feed_forward(), choose.once_in(3), choose.once_in(4)});
  const std::uint64_t layers = choose.from(kinds, 4);
  for (std::uint64_t layer = 0; layer < layers; ++layer) model.add_layers(1, all[layer % kinds]);
  validate(model, "random model");
  return model;
}

ModelWeights random_weights(const ModelDescription& description, std::uint64_t seed) {
  ModelWeights weights;
  for (const ModelTensor& tensor : model_tensors(description))
    weights[tensor.name] = random_values(tensor, seed);
  return weights;
}

std::filesystem::path write_container(const std::filesystem::path& path, const ModelDescription& description,
                                      const ModelWeights& weights, convert::Quant quant) {
  ContainerWriter writer(path, description);
  const std::string tokenizer =
      base::read_text_file(std::filesystem::path(SLUICE_DEMO_RELEASE) / "tokenizer.model");
  writer.add_section("tokenizer", base::as_bytes(tokenizer));
  const auto types = convert::types_for(quant);
  for (const ModelTensor& tensor : model_tensors(description)) {
    const Storage storage = convert::storage_for(tensor, types);
    writer.begin_tensor(tensor, storage, DType::f32, 0);
    writer.append(encode(storage, tensor.shape, weights.at(tensor.name)));
    writer.end_tensor({});
  }
  static_cast<void>(writer.finish());
  return path;
}

}  // namespace sluice::tests
