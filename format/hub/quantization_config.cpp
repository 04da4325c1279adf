#include "format/hub/quantization_config.h"

#include <string>

#include "format/hub/config_reader.h"

namespace sluice::format {
namespace {

/// A missing key is accepted: published files leave out what is usual.
void require_value(const Json& json, const char* key, const Json& expected, std::string_view subject) {
  const Json* value = json.find(key);
  if (value == nullptr || value->is_null() || *value == expected) return;
  refuse_value(subject, key, *value, expected.dump());
}

/// For keys that would change the weights further; published files have them empty.
void require_empty(const Json& json, const char* key, std::string_view subject) {
  const Json* value = json.find(key);
  if (value == nullptr || value->is_null() || *value == Json::object()) return;
  refuse_value(subject, key, *value, "{}");
}

void check_fp8(const Json& json, std::string_view subject) {
  require_known_keys(json,
                     {"quant_method", "activation_scheme", "dequantize", "fmt", "ignored_layers",
                      "modules_to_not_convert", "scale_fmt", "weight_block_size", "kv_cache_scheme"},
                     subject);
  // "e4m3" is DeepSeek's spelling, "float8_e4m3fn" is torch's name, which MiniMax writes.
  if (const Json* format = json.find("fmt"); format == nullptr || *format != Json("float8_e4m3fn"))
    require_value(json, "fmt", "e4m3", subject);
  require_value(json, "weight_block_size", Json::array({128, 128}), subject);
}

void check_mxfp4(const Json& json, std::string_view subject) {
  require_known_keys(json, {"quant_method", "modules_to_not_convert", "dequantize"}, subject);
}

/// Codes of 4 bits with a factor for each group of columns (packed_int4.h). How many columns form a group
/// follows from the files, as with FP8.
void check_int4_weights(const Json& weights, std::string_view subject) {
  require_value(weights, "type", "int", subject);
  if (weights.at("num_bits", subject) != Json(4))
    refuse_value(subject, "num_bits", weights.at("num_bits", subject), "4");
  // With another order of columns the groups are not those of neighbours.
  require_value(weights, "actorder", Json(), subject);
  const Json* strategy = weights.find("strategy");
  if (strategy != nullptr && !strategy->is_null() && *strategy != Json("group") &&
      *strategy != Json("channel"))
    refuse_value(subject, "strategy", *strategy, "\"group\"");
  const Json* size = weights.find("group_size");
  if (size == nullptr || size->is_null()) return;
  for (const int known : {-1, 32, 64, 128})
    if (*size == Json(known)) return;
  refuse_value(subject, "group_size", *size, "32");
}

void check_compressed_tensors(const Json& json, std::string_view subject) {
  require_known_keys(
      json,
      {"quant_method", "config_groups", "format", "global_compression_ratio", "ignore", "kv_cache_scheme",
       "quantization_status", "sparsity_config", "transform_config", "version"},
      subject);
  require_empty(json, "sparsity_config", subject);
  require_empty(json, "transform_config", subject);
  const Json& format = json.at("format", subject);
  const bool packed = format == Json("pack-quantized");
  if (!packed && format != Json("float-quantized") && format != Json("naive-quantized"))
    refuse_value(subject, "format", format, "\"float-quantized\" or \"pack-quantized\"");
  const std::string groups = std::string(subject) + ": key 'config_groups'";
  for (const auto& [name, group] : json.at("config_groups", subject).as_object(groups)) {
    const Json& weights = group.at("weights", groups);
    require_value(weights, "symmetric", true, groups);
    if (packed) {
      check_int4_weights(weights, groups);
    } else {
      require_value(weights, "type", "float", groups);
      require_value(weights, "num_bits", 8, groups);
      require_value(weights, "block_structure", Json::array({128, 128}), groups);
    }
  }
}

}  // namespace

void check_mistral_quantization(const Json& json, std::string_view subject) {
  require_known_keys(json, {"qformat_weight", "qscheme_act"}, subject);
  if (const Json& format = json.at("qformat_weight", subject); format != Json("fp8_e4m3"))
    refuse_value(subject, "qformat_weight", format, "\"fp8_e4m3\"");
}

void check_quantization_config(const Json& json, std::string_view subject) {
  const Json& method = json.at("quant_method", subject);
  if (method == Json("fp8")) return check_fp8(json, subject);
  if (method == Json("mxfp4")) return check_mxfp4(json, subject);
  if (method == Json("compressed-tensors")) return check_compressed_tensors(json, subject);
  refuse_value(subject, "quant_method", method, "\"fp8\", \"mxfp4\" or \"compressed-tensors\"");
}

}  // namespace sluice::format
