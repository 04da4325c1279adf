// A container with random weights in the shapes of a model family, for measurements of speed: written
// directly, without a release that it would come from. The same options give the same bytes.
//
//   random_container OUT [--shape Mixtral-8x7B] [--type q4|q6|q8|bf16] [--attention ..] [--head ..]
//                        [--tokenizer FILE] [--layers 4] [--experts N] [--top K] [--dim N] [--hidden N]
//                        [--heads N] [--kv-heads N] [--head-dim N] [--vocabulary N]
//
// --shape: a model of tests/support/families.h in any case, with the first layers of it. The other numbers
// replace those of all its layers; --heads, --kv-heads and --head-dim those of grouped-query attention.
//
// Weights are uniform and scaled so that a row of a product has the variance of its input (matrices that end
// a mixer: a tenth of the deviation). Attention and output matrices are of the type that `sluice convert`
// gives them, unless told otherwise. Inputs are multiples of 64, so that only rows are padded. Takes the
// memory of the largest tensor, which is the head.

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
#include <variant>
#include <vector>

#include "base/ascii.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "format/container_writer.h"
#include "format/model_description.h"
#include "format/model_tensors.h"
#include "tests/support/families.h"

namespace {

using namespace sluice;
using format::Storage;

struct Arguments {
  std::string output;
  std::map<std::string, std::string> values = {{"--shape", "Mixtral-8x7B"},
                                               {"--type", "q4"},
                                               {"--attention", ""},
                                               {"--head", ""},
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
         {Storage::mx4_tiles, Storage::q4_tiles, Storage::q6_tiles, Storage::q8_tiles, Storage::bf16_tiles})
      if (format::type_name(storage) == type) return storage;
    throw base::Error(base::ErrorKind::usage, "unknown type '" + type + "'");
  }
};

format::ModelDescription family_of(std::string_view name) {
  std::string known;
  for (const tests::Family& family : tests::families()) {
    if (base::to_lower(family.model) == base::to_lower(name)) return family.description;
    known += " " + family.model;
  }
  throw base::Error(base::ErrorKind::usage, "unknown shape '" + std::string(name) + "', known:" + known);
}

/// Replaces what the options say about a layer.
void adapt(const Arguments& arguments, bool narrower, std::uint64_t dim, format::LayerDescription& layer) {
  if (auto* attention = std::get_if<format::GroupedQueryAttention>(&layer.mixer)) {
    // Heads follow the width where only that is given.
    if (narrower) {
      attention->heads = dim / attention->head_dim;
      attention->key_heads = std::max<std::uint64_t>(1, attention->heads / 4);
    }
    arguments.take("--heads", attention->heads);
    arguments.take("--kv-heads", attention->key_heads);
    const std::uint64_t head_dim = attention->head_dim;
    arguments.take("--head-dim", attention->head_dim);
    if (attention->rope && attention->head_dim != head_dim)
      attention->rope->rotary_dims = attention->head_dim;
  }
  if (auto& mixture = layer.feed_forward.mixture) {
    arguments.take("--hidden", mixture->width);
    arguments.take("--experts", mixture->experts);
    arguments.take("--top", mixture->experts_per_token);
    mixture->experts_per_token = std::min(mixture->experts_per_token, mixture->experts);
  } else {
    arguments.take("--hidden", layer.feed_forward.dense->width);
  }
}

format::ModelDescription description_of(const Arguments& arguments) {
  const format::ModelDescription family = family_of(arguments.values.at("--shape"));
  format::ModelDescription description = family;
  description.layers.clear();
  description.layer_kinds.clear();
  arguments.take("--dim", description.width);
  arguments.take("--vocabulary", description.vocabulary);
  const std::uint64_t layers = std::min(arguments.number("--layers"), family.layer_count());
  for (std::uint64_t l = 0; l < layers; ++l) {
    format::LayerDescription layer = family.layer(l);
    adapt(arguments, description.width != family.width, description.width, layer);
    description.add_layers(1, layer);
  }
  format::validate(description, "options");
  for (const format::ModelTensor& tensor : format::model_tensors(description))
    if (tensor.is_matrix() && tensor.shape[1] % 64 != 0)
      throw base::Error(base::ErrorKind::usage, tensor.name + " has " + std::to_string(tensor.shape[1]) +
                                                    " inputs, no multiple of 64");
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

/// The scales of `rows` rows; those of the padding behind them stay zero.
void fill_scales(base::MutableBytes out, std::uint64_t rows, float scale) {
  for (std::size_t row = 0; row < rows; ++row)
    base::store_le(out, row * sizeof(float), std::bit_cast<std::uint32_t>(scale));
}

/// Makes the codes of rows of padding zero, where no scale does so; a code has at most this many bytes.
void clear_padding(const format::TileLayout& layout, std::size_t code_bytes, base::MutableBytes out) {
  for (std::uint64_t row = layout.rows; row < layout.padded_rows; ++row)
    for (std::uint64_t col = 0; col < layout.padded_cols; ++col)
      std::ranges::fill(out.subspan(layout.code_offset_bytes(row, col), code_bytes), std::byte{0});
}

/// `gain`: deviation of a product's rows to that of its input.
void fill_tiles(Random& random, const format::TileLayout& layout, float gain, base::MutableBytes out) {
  const float unit = gain / std::sqrt(static_cast<float>(layout.cols));  // a weight's deviation
  const auto plane = [&](std::uint64_t begin, std::uint64_t end) { return out.subspan(begin, end - begin); };
  const std::uint64_t codes_end = layout.panels * layout.panel_code_bytes;
  switch (layout.type) {
    case format::TileType::bf16:
      fill_bf16(random, out, unit * std::sqrt(3.0f));
      return clear_padding(layout, 2, out);
    case format::TileType::q8:
      // The format has no code -128.
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      for (std::byte& code : plane(0, codes_end)) code = code == std::byte{0x80} ? std::byte{0} : code;
      return fill_scales(out.subspan(layout.row_scales_offset_bytes), layout.rows, unit / 73.6f);
    case format::TileType::q6:
      // Sub-scales of 2 and 3 are what weights have as a rule.
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      random.fill(plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes), 0x5555555555555555);
      for (std::byte& magnitudes : plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes))
        magnitudes ^= (magnitudes & std::byte{0x55}) << 1 ^ std::byte{0xAA};
      return fill_scales(out.subspan(layout.row_scales_offset_bytes), layout.rows, unit / 47.0f);
    case format::TileType::q4:
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      // Sub-scales of 1 to 8: so that the pair (-8, -16) does not come up.
      random.fill(plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes), 0x7777777777777777);
      random.fill(plane(layout.signs_offset_bytes, layout.row_scales_offset_bytes), ~std::uint64_t{0});
      return fill_scales(out.subspan(layout.row_scales_offset_bytes), layout.rows, unit / 23.4f);
    case format::TileType::mx4:
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      // The exponent next to the deviation that the doubled values of random codes have, 5.85.
      std::ranges::fill(plane(layout.exponents_offset_bytes, layout.total_bytes),
                        static_cast<std::byte>(128 + std::lround(std::log2(unit / 5.85f))));
      return clear_padding(layout, 1, out);
  }
}

/// Matrices whose result is added to the residual stream behind a mixer.
bool ends_mixer(format::TensorRole role) {
  return role == format::TensorRole::attention_output || role == format::TensorRole::delta_output ||
         role == format::TensorRole::convolution_output;
}

/// Tensors that are added to something or whose values lie around zero, unlike the weights of norms.
bool is_around_zero(const format::ModelTensor& tensor) {
  return tensor.name.ends_with("bias") || tensor.role == format::TensorRole::sinks ||
         tensor.role == format::TensorRole::delta_decay_rate;
}

class Generator {
 public:
  explicit Generator(const Arguments& arguments)
      : description_(description_of(arguments)),
        experts_(Arguments::storage(arguments.values.at("--type"))),
        attention_(arguments.values.at("--attention").empty()
                       ? (experts_ == Storage::q4_tiles || experts_ == Storage::mx4_tiles ? Storage::q6_tiles
                                                                                          : experts_)
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
      const float gain = ends_mixer(tensor.role) ? 0.1f : 1.0f;
      fill_tiles(random_, {format::tile_type(storage), tensor.shape[0], tensor.shape[1]}, gain, out);
    } else if (storage == Storage::bf16_rows) {
      fill_bf16(random_, out, 1);
    } else if (tensor.shape.size() == 2) {  // routers, convolutions
      fill_floats(random_, out, 0, std::sqrt(3.0f / static_cast<float>(tensor.shape[1])));
    } else if (is_around_zero(tensor)) {
      fill_floats(random_, out, 0, 0.1f);
    } else {
      fill_floats(random_, out, 1, 0.1f);
    }
  }

  void add(const format::ModelTensor& tensor) {
    const Storage storage = storage_of(tensor.quantization);
    const bool starts_expert =
        tensor.expert && (tensor.layer != last_.layer || tensor.expert != last_.expert);
    last_ = tensor;
    bytes_.assign(format::storage_bytes(storage, tensor.shape), std::byte{0});
    fill(tensor, storage, bytes_);
    writer_.begin_tensor(
        tensor, storage, storage == Storage::mx4_tiles ? format::DType::mxfp4 : format::DType::bf16,
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
  format::ModelTensor last_;
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
