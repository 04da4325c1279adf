#include "format/grok/grok_release.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "base/ascii.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/grok/pickled_arrays.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;
using std::string_view_literals::operator""sv;

// run.py and model.py of the release. The multipliers are the square root of the width (78.38), of a third
// (0.577), and of the head's 1 / 128 (0.088).
constexpr std::uint64_t kHeadDim = 128;
constexpr std::uint64_t kExpertsPerToken = 2;
constexpr double kEmbeddingScale = 78.38367176906169;
constexpr double kLogitsScale = 0.5773502691896257;
constexpr double kScoreScale = 0.08838834764831845;
constexpr double kSoftCap = 30;
constexpr double kNormEpsilon = 1e-5;
constexpr double kRopeBase = 10000;

constexpr std::uint64_t kTensorsBefore = 2;  // embedding and final norm
constexpr std::string_view kFolder = "ckpt-0";

// The tensors of a layer in the order of their names: moe/linear, moe/linear_1, moe/linear_v,
// multi_head_attention/key, /linear, /query, /value, rms_norm, rms_norm_1, rms_norm_2, rms_norm_3, router.
constexpr std::array kLayerOrder{
    TensorRole::expert_gate,
    TensorRole::expert_down,
    TensorRole::expert_up,
    TensorRole::key,
    TensorRole::attention_output,
    TensorRole::query,
    TensorRole::value,
    TensorRole::mixer_norm,
    TensorRole::mixer_post_norm,
    TensorRole::feed_forward_norm,
    TensorRole::feed_forward_post_norm,
    TensorRole::router,
};

std::string name_of(std::uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof(name), "tensor%05llu_000", static_cast<unsigned long long>(number));
  return name;
}

/// The place of a layer among all layers when their numbers are sorted as text.
std::uint64_t rank_of(std::uint64_t layer, std::uint64_t layers) {
  const std::string text = std::to_string(layer);
  std::uint64_t rank = 0;
  for (std::uint64_t other = 0; other < layers; ++other) rank += std::to_string(other) < text ? 1 : 0;
  return rank;
}

std::uint64_t number_of(TensorRole role, std::uint64_t layer, std::uint64_t layers) {
  if (role == TensorRole::embedding) return 0;
  if (role == TensorRole::final_norm) return 1;
  const auto found = std::ranges::find(kLayerOrder, role);
  if (found == kLayerOrder.end())
    base::throw_malformed("Grok-1", "its layout has no tensor '" + tensor_name(role, layer) + "'");
  const auto place = static_cast<std::uint64_t>(found - kLayerOrder.begin());
  return kTensorsBefore + rank_of(layer, layers) * kLayerOrder.size() + place;
}

/// The shape of a tensor by its role in layer 0, which must have `axes` axes.
Shape shape_of(const CheckpointIndex& checkpoint, TensorRole role, std::uint64_t layers, std::size_t axes) {
  const std::string name = name_of(number_of(role, 0, layers));
  const CheckpointTensor* tensor = checkpoint.find(name + ".weight");
  if (tensor == nullptr) tensor = checkpoint.find(name);
  if (tensor == nullptr)
    base::throw_malformed(checkpoint.files.front().string(), "tensor '" + name + "' is missing");
  if (tensor->shape.size() != axes)
    base::throw_malformed(
        checkpoint.files[tensor->file_index].string(),
        "has shape " + to_string(tensor->shape) + ", expected " + std::to_string(axes) + " axes");
  return tensor->shape;
}

}  // namespace

CheckpointIndex open_pickle(const fs::path& path) {
  const auto file = base::File::open_read(path);
  CheckpointIndex index;
  index.kind = CheckpointKind::pickle;
  index.files = {path};
  for (PickledArray& array : read_pickled_arrays(file)) {
    CheckpointTensor tensor;
    tensor.name = path.filename().string() + (array.name.empty() ? "" : "." + array.name);
    tensor.dtype = array.dtype;
    tensor.offset_bytes = array.offset_bytes;
    tensor.extent_bytes = element_count(array.shape).value() * size_bytes(array.dtype);
    tensor.shape = std::move(array.shape);
    tensor.strides = std::move(array.strides);
    index.tensors.push_back(std::move(tensor));
  }
  std::ranges::sort(index.tensors, {}, &CheckpointTensor::name);
  return index;
}

bool is_pickled_array(std::string_view head) {
  // PROTO 4, FRAME and its length, SHORT_BINUNICODE.
  constexpr std::size_t kFrameBytes = 8;
  if (!head.starts_with("\x80\x04\x95"sv) || head.size() < 3 + kFrameBytes) return false;
  head.remove_prefix(3 + kFrameBytes);
  return head.starts_with("\x8c\x15numpy.core.multiarray"sv) ||
         head.starts_with("\x8c\x16numpy._core.multiarray"sv) ||
         head.starts_with("\x8c\x08__main__\x94\x8c\x13QuantizedWeight8bit"sv);
}

std::optional<std::uint64_t> grok_tensor_number(std::string_view file_name) {
  constexpr std::string_view kStart = "tensor";
  constexpr std::string_view kEnd = "_000";
  constexpr std::size_t kDigits = 5;
  if (file_name.size() != kStart.size() + kDigits + kEnd.size() || !file_name.starts_with(kStart) ||
      !file_name.ends_with(kEnd))
    return std::nullopt;
  return base::parse_uint(file_name.substr(kStart.size(), kDigits));
}

std::optional<fs::path> find_grok_folder(const fs::path& folder) {
  for (const fs::path& candidate : {folder / kFolder, folder})
    if (fs::exists(candidate / name_of(0))) return candidate;
  return std::nullopt;
}

ModelConfig grok_config(const CheckpointIndex& checkpoint) {
  const std::uint64_t count = checkpoint.files.size();
  if (count < kTensorsBefore + kLayerOrder.size() || (count - kTensorsBefore) % kLayerOrder.size() != 0)
    base::throw_malformed(checkpoint.files.front().parent_path().string(),
                          "has " + std::to_string(count) + " tensors, expected 2 and 12 for each layer");
  const std::uint64_t layers = (count - kTensorsBefore) / kLayerOrder.size();
  const auto shape = [&](TensorRole role, std::size_t axes) {
    return shape_of(checkpoint, role, layers, axes);
  };

  GroupedQueryAttention attention;
  attention.heads = shape(TensorRole::query, 2)[1] / kHeadDim;
  attention.key_heads = shape(TensorRole::key, 2)[1] / kHeadDim;
  attention.head_dim = kHeadDim;
  attention.scale = kScoreScale;
  attention.soft_cap = kSoftCap;
  attention.rope.emplace();
  attention.rope->style = RopeStyle::half_split;
  attention.rope->rotary_dims = kHeadDim;
  attention.rope->base = kRopeBase;

  Mixture mixture;
  mixture.experts = shape(TensorRole::router, 2)[1];
  mixture.experts_per_token = kExpertsPerToken;
  mixture.width = shape(TensorRole::expert_gate, 3)[2];

  ModelConfig config;
  ModelDescription& model = config.description;
  const Shape embedding = shape(TensorRole::embedding, 2);
  model.vocabulary = embedding[0];
  model.width = embedding[1];
  model.norm.epsilon = kNormEpsilon;
  model.activation = GeluTanh{};
  model.tied_embeddings = true;
  model.embedding_scale = kEmbeddingScale;
  model.logits_scale = kLogitsScale;
  LayerDescription layer;
  layer.mixer = attention;
  layer.feed_forward.mixture = mixture;
  layer.post_norms = true;
  model.add_layers(layers, layer);
  validate(model, checkpoint.files.front().parent_path().string());
  return config;
}

std::vector<Placement> grok_placements(const ModelTensor& tensor, const ModelDescription& description) {
  Placement place;
  place.layout = "grok-1";
  place.name = name_of(number_of(tensor.role, tensor.layer, description.layer_count()));
  place.shape = tensor.shape;
  // Matrices are [in, out] (Haiku), all but the embedding.
  if (tensor.shape.size() == 2 && tensor.role != TensorRole::embedding) {
    place.transposed = true;
    std::swap(place.shape[0], place.shape[1]);
  }
  if (tensor.expert) {
    place.outer_index = *tensor.expert;
    place.shape.insert(place.shape.begin(), description.layer(tensor.layer).feed_forward.mixture->experts);
  }
  Placement quantized = place;
  quantized.name += ".weight";
  return {quantized, place};
}

}  // namespace sluice::format
