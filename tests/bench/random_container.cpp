// A container with random weights in the shapes of a model family, for measurements of speed: written
// directly, without a release that it would come from. The same options give the same bytes.
//
//   random_container OUT [--shape mixtral-8x7b] [--type q4|q6|q8|bf16] [--attention ..] [--head ..]
//                        [--tokenizer FILE] [--plain yes]
//                        [--layers 4] [--experts N] [--top K] [--dim N] [--hidden N] [--heads N] [--kv-heads
//                        N]
//                        [--head-dim N] [--vocabulary N]
//
// --shape: one of kShapes below; the other numbers replace those of the shape. `--plain yes` leaves out what
// Mixtral does not have (norms of queries and keys, biases, shared experts, scales).
//
// Weights are uniform and scaled so that a row of a product has the variance of its input (wo: a tenth of the
// deviation). Attention and output matrices are of the type that `sluice convert` gives them, unless told
// otherwise. Widths are multiples of 64, so that there is no padding. Takes the memory of the largest tensor,
// which is the head.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <future>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "format/container_writer.h"
#include "format/model_description.h"
#include "format/model_tensors.h"

namespace {

using namespace sluice;
using format::Storage;

struct ModelShape {
  std::string_view name;
  std::uint64_t dim, hidden, heads, kv_heads, head_dim, experts, top, vocabulary;
  double norm_epsilon, rope_base;
  format::QueryKeyNorm norm = format::QueryKeyNorm::none;
  std::uint64_t shared = 0;  ///< width of the shared expert, which has a gate
  bool biases = false;       ///< on queries, keys and values
  bool granite = false;      ///< Granite's scales
};

using enum format::QueryKeyNorm;

constexpr ModelShape kShapes[] = {
    {"mixtral-8x7b", 4096, 14336, 32, 8, 128, 8, 2, 32000, 1e-5, 1e6},
    {"qwen3-30b-a3b", 2048, 768, 32, 4, 128, 128, 8, 151936, 1e-6, 1e6, per_head},
    {"olmoe-1b-7b", 2048, 1024, 16, 16, 128, 64, 8, 50304, 1e-5, 1e4, full_width},
    {"qwen1.5-moe", 2048, 1408, 16, 16, 128, 60, 4, 151936, 1e-6, 1e6, none, 5632, true},
    {"granite-1b", 1024, 512, 16, 8, 64, 32, 8, 49216, 1e-6, 1e4, none, 0, false, true},
};

struct Arguments {
  std::string output;
  std::map<std::string, std::string> values = {{"--shape", "mixtral-8x7b"},
                                               {"--type", "q4"},
                                               {"--attention", ""},
                                               {"--head", ""},
                                               {"--plain", "no"},
                                               {"--layers", "4"},
                                               {"--dim", ""},
                                               {"--hidden", ""},
                                               {"--heads", ""},
                                               {"--kv-heads", ""},
                                               {"--head-dim", ""},
                                               {"--top", ""},
                                               {"--experts", ""},
                                               {"--vocabulary", ""},
                                               {"--tokenizer", SLUICE_DEMO_TOKENIZER}};

  Arguments(int count, char** words) {
    for (int i = 1; i < count; ++i) {
      const std::string word = words[i];
      const auto option = values.find(word);
      if (option != values.end() && i + 1 < count) {
        option->second = words[++i];
      } else if (output.empty() && !word.starts_with("-")) {
        output = word;
      } else {
        throw base::Error(base::ErrorKind::usage, "unexpected argument '" + word + "'");
      }
    }
    if (output.empty()) throw base::Error(base::ErrorKind::usage, "the file to write is missing");
  }

  [[nodiscard]] std::uint64_t number(const std::string& option) const {
    try {
      return std::stoull(values.at(option));
    } catch (const std::exception&) {
      throw base::Error(base::ErrorKind::usage, option + ": not a number: '" + values.at(option) + "'");
    }
  }

  /// Replaces `number` where the option is given.
  void take(const std::string& option, std::uint64_t& value) const {
    if (!values.at(option).empty()) value = number(option);
  }

  /// Tiled storage of that name.
  [[nodiscard]] static Storage storage(const std::string& type) {
    for (const Storage storage :
         {Storage::q4_tiles, Storage::q6_tiles, Storage::q8_tiles, Storage::bf16_tiles})
      if (format::type_name(storage) == type) return storage;
    throw base::Error(base::ErrorKind::usage, "unknown type '" + type + "'");
  }
};

ModelShape shape_of(const Arguments& arguments) {
  const auto found = std::ranges::find(kShapes, arguments.values.at("--shape"), &ModelShape::name);
  if (found == std::end(kShapes))
    throw base::Error(base::ErrorKind::usage, "unknown shape '" + arguments.values.at("--shape") + "'");
  ModelShape shape = *found;
  const std::uint64_t dim = shape.dim;
  arguments.take("--dim", shape.dim);
  // Heads follow the width where only that is given.
  if (dim != shape.dim) {
    shape.heads = shape.dim / shape.head_dim;
    shape.kv_heads = std::max<std::uint64_t>(1, shape.heads / 4);
  }
  arguments.take("--hidden", shape.hidden);
  arguments.take("--heads", shape.heads);
  arguments.take("--kv-heads", shape.kv_heads);
  arguments.take("--head-dim", shape.head_dim);
  arguments.take("--experts", shape.experts);
  arguments.take("--top", shape.top);
  arguments.take("--vocabulary", shape.vocabulary);
  shape.top = std::min(shape.top, shape.experts);
  if (shape.dim % 64 != 0 || shape.hidden % 64 != 0 || shape.vocabulary % 64 != 0)
    throw base::Error(base::ErrorKind::usage, "--dim, --hidden and --vocabulary must be multiples of 64");
  return shape;
}

format::ModelDescription description_of(const Arguments& arguments) {
  const ModelShape shape = shape_of(arguments);
  const bool plain = arguments.values.at("--plain") == "yes";
  const bool is_mixtral = shape.name == kShapes[0].name || plain;
  format::GroupedQueryAttention attention;
  attention.heads = shape.heads;
  attention.key_heads = shape.kv_heads;
  attention.head_dim = shape.head_dim;
  attention.rope.emplace();
  attention.rope->style = is_mixtral ? format::RopeStyle::interleaved : format::RopeStyle::half_split;
  attention.rope->rotary_dims = shape.head_dim;
  attention.rope->base = shape.rope_base;
  format::Mixture mixture;
  mixture.experts = shape.experts;
  mixture.experts_per_token = shape.top;
  mixture.width = shape.hidden;
  mixture.router.renormalise = true;
  format::ModelDescription description;
  description.width = shape.dim;
  description.vocabulary = shape.vocabulary;
  description.norm.epsilon = shape.norm_epsilon;
  if (!plain) {
    attention.query_key_norm = shape.norm;
    attention.input_biases = shape.biases;
    if (shape.shared > 0) mixture.shared = format::SharedExpert{.width = shape.shared, .gate = true};
    if (shape.granite) {
      attention.scale = 0.015625;
      description.embedding_scale = 12;
      description.residual_scale = 0.22;
      description.logits_scale = 1.0 / 6;
    }
  }
  format::LayerDescription layer;
  layer.mixer = attention;
  layer.feed_forward.mixture = mixture;
  description.add_layers(arguments.number("--layers"), layer);
  format::validate(description, "options");
  return description;
}

/// splitmix64 (Steele, Lea, Flood 2014): each number follows from the last one's place, so loops vectorize.
class Random {
 public:
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

  /// In [-1, 1).
  float uniform() { return static_cast<float>(next() >> 40) * 0x1p-23f - 1.0f; }

  /// Whole words of random bits, of which only those of `mask` are kept.
  void fill(base::MutableBytes out, std::uint64_t mask) {
    for (std::size_t i = 0; i < out.size(); i += sizeof(std::uint64_t)) base::store_le(out, i, next() & mask);
  }

 private:
  std::uint64_t state_ = 1;
};

void fill_floats(Random& random, base::MutableBytes out, float middle, float width) {
  for (std::size_t i = 0; i < out.size(); i += sizeof(float))
    base::store_le(out, i, std::bit_cast<std::uint32_t>(middle + width * random.uniform()));
}

void fill_bf16(Random& random, base::MutableBytes out, float width) {
  for (std::size_t i = 0; i < out.size(); i += 2) {
    const auto bits = std::bit_cast<std::uint32_t>(width * random.uniform());
    base::store_le(out, i, static_cast<std::uint16_t>(bits >> 16));
  }
}

void fill_scales(base::MutableBytes out, float scale) {
  for (std::size_t i = 0; i < out.size(); i += sizeof(float))
    base::store_le(out, i, std::bit_cast<std::uint32_t>(scale));
}

/// `gain`: deviation of a product's rows to that of its input.
void fill_tiles(Random& random, const format::TileLayout& layout, float gain, base::MutableBytes out) {
  const float unit = gain / std::sqrt(static_cast<float>(layout.cols));  // a weight's deviation
  const auto plane = [&](std::uint64_t begin, std::uint64_t end) { return out.subspan(begin, end - begin); };
  const std::uint64_t codes_end = layout.panels * layout.panel_code_bytes;
  const std::uint64_t scales_bytes = layout.padded_rows * sizeof(float);
  switch (layout.type) {
    case format::TileType::bf16: return fill_bf16(random, out, unit * std::sqrt(3.0f));
    case format::TileType::q8:
      // The format has no code -128.
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      for (std::byte& code : plane(0, codes_end)) code = code == std::byte{0x80} ? std::byte{0} : code;
      return fill_scales(plane(layout.row_scales_offset_bytes, layout.row_scales_offset_bytes + scales_bytes),
                         unit / 73.6f);
    case format::TileType::q6:
      // Sub-scales of 2 and 3 are what weights have as a rule.
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      random.fill(plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes), 0x5555555555555555);
      for (std::byte& magnitudes : plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes))
        magnitudes ^= (magnitudes & std::byte{0x55}) << 1 ^ std::byte{0xAA};
      return fill_scales(plane(layout.row_scales_offset_bytes, layout.row_scales_offset_bytes + scales_bytes),
                         unit / 47.0f);
    case format::TileType::q4:
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      // Sub-scales of 1 to 8: so that the pair (-8, -16) does not come up.
      random.fill(plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes), 0x7777777777777777);
      random.fill(plane(layout.signs_offset_bytes, layout.row_scales_offset_bytes), ~std::uint64_t{0});
      return fill_scales(plane(layout.row_scales_offset_bytes, layout.row_scales_offset_bytes + scales_bytes),
                         unit / 23.4f);
  }
}

bool is_bias(format::TensorRole role) {
  return role == format::TensorRole::query_bias || role == format::TensorRole::key_bias ||
         role == format::TensorRole::value_bias;
}

class Generator {
 public:
  explicit Generator(const Arguments& arguments)
      : description_(description_of(arguments)),
        experts_(Arguments::storage(arguments.values.at("--type"))),
        attention_(arguments.values.at("--attention").empty()
                       ? (experts_ == Storage::q4_tiles ? Storage::q6_tiles : experts_)
                       : Arguments::storage(arguments.values.at("--attention"))),
        head_(arguments.values.at("--head").empty() ? attention_
                                                    : Arguments::storage(arguments.values.at("--head"))),
        tokenizer_(base::read_file(arguments.values.at("--tokenizer"))),
        writer_(arguments.output, description_) {}

  format::WrittenContainer run() {
    writer_.add_section("tokenizer", tokenizer_);
    writer_.set_provenance(format::Json::object({{"release", "random weights"}}));
    writer_.set_recipe(format::Json::object({{"quant", format::type_name(experts_)},
                                             {"experts", format::type_name(experts_)},
                                             {"attention", format::type_name(attention_)},
                                             {"head", format::type_name(head_)}}));
    for (const format::ModelTensor& tensor : format::model_tensors(description_)) add(tensor);
    return writer_.finish();
  }

 private:
  [[nodiscard]] Storage storage_of(format::QuantizationClass quantization) const {
    switch (quantization) {
      case format::QuantizationClass::unquantized: return Storage::f32_rows;
      case format::QuantizationClass::embedding: return Storage::bf16_rows;
      case format::QuantizationClass::attention: return attention_;
      case format::QuantizationClass::head: return head_;
      case format::QuantizationClass::feed_forward: break;
    }
    return experts_;
  }

  void fill(const format::ModelTensor& tensor, Storage storage, base::MutableBytes out) {
    if (format::is_tiled(storage)) {
      // Random attention averages over the tokens. At full strength it makes all tokens alike after a few
      // layers, and the routers of those below choose the same experts for all of them.
      const float gain = tensor.role == format::TensorRole::attention_output ? 0.1f : 1.0f;
      fill_tiles(random_, {format::tile_type(storage), tensor.shape[0], tensor.shape[1]}, gain, out);
    } else if (storage == Storage::bf16_rows) {
      fill_bf16(random_, out, 1);
    } else if (tensor.role == format::TensorRole::router ||
               tensor.role == format::TensorRole::shared_router) {
      fill_floats(random_, out, 0, std::sqrt(3.0f / static_cast<float>(description_.width)));
    } else if (is_bias(tensor.role)) {
      fill_floats(random_, out, 0, 0.1f);
    } else {
      fill_floats(random_, out, 1, 0.1f);
    }
  }

  void add(const format::ModelTensor& tensor) {
    const Storage storage = storage_of(tensor.quantization);
    const bool starts_expert = tensor.role == format::TensorRole::expert_gate;
    bytes_.assign(format::storage_bytes(storage, tensor.shape), std::byte{0});
    fill(tensor, storage, bytes_);
    writer_.begin_tensor(
        tensor, storage, format::DType::bf16,
        starts_expert ? format::expert_extent_bytes(description_, tensor.layer, experts_) : 0);
    auto written = std::async(std::launch::async, [&] { writer_.write(bytes_); });
    writer_.hash(bytes_);
    written.get();
    writer_.end_tensor({});
  }

  format::ModelDescription description_;
  Storage experts_;
  Storage attention_;
  Storage head_;
  std::vector<std::byte> tokenizer_;
  format::ContainerWriter writer_;
  Random random_;
  std::vector<std::byte> bytes_;  // of the current tensor
};

}  // namespace

int main(int count, char** words) {
  try {
    const auto written = Generator(Arguments(count, words)).run();
    std::cout << written.file_bytes << " bytes, root " << base::to_hex(written.root) << "\n";
    return 0;
  } catch (const base::Error& error) {
    std::cerr << "random_container: " << error.what() << "\n";
    return error.kind() == base::ErrorKind::usage ? 2 : 1;
  }
}
