// The directory of a container as JSON and back, and the check that it is consistent (docs/container.md,
// "Directory").
//
// Parsing and checking are separate: parse_directory() looks at types and keys, check_directory() at what the
// values mean together. The check derives the list of tensors from the model's description, and accepts
// nothing else: names, shapes, order, experts and the root all follow from the description and the tensors'
// own entries. After it, the runtime may index, slice and multiply without looking at a bound again, so
// whatever the runtime relies on must be refused here. All sums over offsets and lengths are checked for
// overflow, because the numbers come from the file. Everything runs on the caller's thread.

#include "format/container_directory.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/hasher.h"
#include "base/invariant.h"
#include "format/mistral_params.h"
#include "format/model_limits.h"
#include "format/model_tensors.h"

namespace sluice::format {
namespace {

Json shape_json(const Shape& shape) { return Json::array_of(shape); }

Json tensor_json(const ContainerTensor& tensor) {
  return Json::object({{"name", tensor.name},
                       {"shape", shape_json(tensor.shape)},
                       {"type", type_name(tensor.storage)},
                       {"layout", layout_name(tensor.storage)},
                       {"offset", tensor.offset_bytes},
                       {"bytes", tensor.length_bytes},
                       {"digest", base::to_hex(tensor.digest)},
                       {"source_dtype", to_string(tensor.source_dtype)},
                       {"source_digest", base::to_hex(tensor.source_digest)}});
}

Json expert_json(const ContainerExpert& expert) {
  return Json::object({{"layer", expert.layer},
                       {"expert", expert.expert},
                       {"offset", expert.offset_bytes},
                       {"bytes", expert.length_bytes},
                       {"digest", base::to_hex(expert.digest)}});
}

Json section_json(const ContainerSection& section) {
  return Json::object({{"name", section.name},
                       {"offset", section.offset_bytes},
                       {"bytes", section.length_bytes},
                       {"sha256", base::to_hex(section.sha256)}});
}

template <typename Range, typename F>
Json list_json(const Range& range, F to_item) {
  Json::Array items;
  for (const auto& item : range) items.push_back(to_item(item));
  return Json(std::move(items));
}

base::Sha256 digest_of(const Json& object, std::string_view key, std::string_view subject) {
  const std::string& hex = object.at(key, subject).as_string(subject);
  const auto digest = base::parse_digest<base::Sha256>(hex);
  if (!digest) base::throw_malformed(subject, "key '" + std::string(key) + "': expected 64 hex digits");
  return *digest;
}

std::uint64_t uint_of(const Json& object, std::string_view key, std::string_view subject) {
  return object.at(key, subject).as_uint(subject);
}

Storage storage_of(const Json& object, std::string_view subject) {
  const std::string& type = object.at("type", subject).as_string(subject);
  const std::string& layout = object.at("layout", subject).as_string(subject);
  // The pair decides: "bf16" occurs in rows (the embedding) and in tiles (a matrix).
  for (const Storage storage : {Storage::f32_rows, Storage::bf16_rows, Storage::bf16_tiles, Storage::q8_tiles,
                                Storage::q6_tiles, Storage::q4_tiles}) {
    if (type_name(storage) == type && layout_name(storage) == layout) return storage;
  }
  base::throw_malformed(subject, "unknown type '" + type + "' in layout '" + layout + "'");
}

ContainerTensor parse_tensor(const Json& json, std::string_view subject) {
  require_known_keys(
      json, {"name", "shape", "type", "layout", "offset", "bytes", "digest", "source_dtype", "source_digest"},
      subject);
  ContainerTensor tensor;
  tensor.name = json.at("name", subject).as_string(subject);
  for (const Json& extent : json.at("shape", subject).as_array(subject))
    tensor.shape.push_back(extent.as_uint(subject));
  tensor.storage = storage_of(json, subject);
  tensor.offset_bytes = uint_of(json, "offset", subject);
  tensor.length_bytes = uint_of(json, "bytes", subject);
  tensor.digest = digest_of(json, "digest", subject);
  const auto dtype = parse_dtype(json.at("source_dtype", subject).as_string(subject));
  if (!dtype) base::throw_malformed(subject, "tensor '" + tensor.name + "': unknown source_dtype");
  tensor.source_dtype = *dtype;
  tensor.source_digest = digest_of(json, "source_digest", subject);
  return tensor;
}

ContainerExpert parse_expert(const Json& json, std::string_view subject) {
  require_known_keys(json, {"layer", "expert", "offset", "bytes", "digest"}, subject);
  return {uint_of(json, "layer", subject), uint_of(json, "expert", subject), uint_of(json, "offset", subject),
          uint_of(json, "bytes", subject), digest_of(json, "digest", subject)};
}

ContainerSection parse_section(const Json& json, std::string_view subject) {
  require_known_keys(json, {"name", "offset", "bytes", "sha256"}, subject);
  return {json.at("name", subject).as_string(subject), uint_of(json, "offset", subject),
          uint_of(json, "bytes", subject), digest_of(json, "sha256", subject)};
}

/// A range of the payload, for the checks of order and overlap.
struct PayloadRange {
  std::string_view name;
  std::uint64_t offset_bytes;
  std::uint64_t length_bytes;
};

/// Gaps are permitted, because experts are aligned to 2 MiB; overlaps are not. `ranges` may come in any
/// order, as sections and tensors are listed separately.
void check_ranges(std::vector<PayloadRange> ranges, std::uint64_t payload_end_bytes,
                  std::string_view subject) {
  std::ranges::sort(ranges, {}, &PayloadRange::offset_bytes);
  std::uint64_t end = kContainerHeaderBytes;
  for (const PayloadRange& range : ranges) {
    // Sorted ranges overlap if and only if one begins before its predecessor ends.
    const auto next = base::checked_add(range.offset_bytes, range.length_bytes);
    if (range.offset_bytes < end || !next || *next > payload_end_bytes) {
      base::throw_malformed(subject, "'" + std::string(range.name) + "' at byte " +
                                         std::to_string(range.offset_bytes) + " with " +
                                         std::to_string(range.length_bytes) +
                                         " bytes overlaps or leaves the payload");
    }
    if (range.offset_bytes % kTensorAlignmentBytes != 0)
      base::throw_malformed(subject, "'" + std::string(range.name) + "' does not start on a page");
    end = *next;
  }
}

/// The storages that convert can choose for a tensor of this class, and for which the runtime has code.
bool is_possible(QuantizationClass quantization, Storage storage) {
  switch (quantization) {
    case QuantizationClass::unquantized: return storage == Storage::f32_rows;
    case QuantizationClass::embedding: return storage == Storage::bf16_rows;
    case QuantizationClass::attention:
    case QuantizationClass::feed_forward:
    case QuantizationClass::head: return is_tiled(storage);
  }
  INVARIANT(!"a class without storage");
}

void check_tensor(const ContainerTensor& tensor, const ModelTensor& expected, std::string_view subject) {
  if (tensor.name != expected.name || tensor.shape != expected.shape) {
    base::throw_malformed(subject, "tensor '" + tensor.name + "' " + to_string(tensor.shape) +
                                       ": expected '" + expected.name + "' " + to_string(expected.shape));
  }
  if (!is_possible(expected.quantization, tensor.storage)) {
    base::throw_malformed(subject, "tensor '" + tensor.name + "': type " +
                                       std::string(type_name(tensor.storage)) + " in " +
                                       std::string(layout_name(tensor.storage)) + " is not possible here");
  }
  if (tensor.length_bytes != storage_bytes(tensor.storage, tensor.shape)) {
    base::throw_malformed(subject, "tensor '" + tensor.name + "': has " +
                                       std::to_string(tensor.length_bytes) + " bytes, its shape needs " +
                                       std::to_string(storage_bytes(tensor.storage, tensor.shape)));
  }
}

/// Compares entries one by one with the model's tensors. The order of the directory is fixed, too: the
/// functions below, and those of runtime/memory/model_cost.h, pair both lists by index.
void check_tensors(const ContainerDirectory& directory, std::span<const ModelTensor> expected,
                   std::string_view subject) {
  if (directory.tensors.size() != expected.size()) {
    base::throw_malformed(subject, "has " + std::to_string(directory.tensors.size()) +
                                       " tensors, its parameters ask for " + std::to_string(expected.size()));
  }
  for (std::size_t i = 0; i < expected.size(); ++i) check_tensor(directory.tensors[i], expected[i], subject);
}

/// Matrices that read the same activations must agree whether these are floats (bf16) or integers: the
/// runtime prepares the input rows once for all of them. Down matrices are exempt, because no other matrix
/// reads their input.
void check_shared_inputs(const ContainerDirectory& directory, std::span<const ModelTensor> expected,
                         std::string_view subject) {
  std::map<std::pair<std::uint64_t, MatrixInput>, const ContainerTensor*> first_by_input;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!expected[i].is_matrix() || expected[i].input == MatrixInput::hidden) continue;
    const ContainerTensor& tensor = directory.tensors[i];
    const auto [found, is_first] =
        first_by_input.try_emplace({expected[i].layer, expected[i].input}, &tensor);
    const ContainerTensor& first = *found->second;
    if ((tensor.storage == Storage::bf16_tiles) != (first.storage == Storage::bf16_tiles)) {
      base::throw_malformed(subject, "tensor '" + tensor.name + "': type " +
                                         std::string(type_name(tensor.storage)) + " does not go with '" +
                                         first.name + "' of type " + std::string(type_name(first.storage)) +
                                         ", which has the same input");
    }
  }
}

/// Derives the experts from the tensors: the tensors of one expert follow one another, and its extent reaches
/// from the first to the last of them. `digests` collects those of the current expert.
std::vector<ContainerExpert> experts_of(const std::vector<ContainerTensor>& tensors,
                                        std::span<const ModelTensor> expected) {
  INVARIANT(tensors.size() == expected.size());
  std::vector<ContainerExpert> experts;
  std::vector<base::Sha256> digests;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!expected[i].expert) continue;
    digests.push_back(tensors[i].digest);
    const bool is_last = i + 1 == expected.size() || expected[i + 1].expert != expected[i].expert ||
                         expected[i + 1].layer != expected[i].layer;
    if (!is_last) continue;
    const std::uint64_t begin = tensors[i + 1 - digests.size()].offset_bytes;
    experts.push_back({expected[i].layer, *expected[i].expert, begin,
                       tensors[i].offset_bytes + tensors[i].length_bytes - begin, expert_digest(digests)});
    digests.clear();
  }
  return experts;
}

void check_experts(const ContainerDirectory& directory, std::span<const ModelTensor> tensors,
                   std::string_view subject) {
  const auto expected = experts_of(directory.tensors, tensors);
  const auto same = [](const ContainerExpert& a, const ContainerExpert& b) {
    return a.layer == b.layer && a.expert == b.expert && a.offset_bytes == b.offset_bytes &&
           a.length_bytes == b.length_bytes && a.digest == b.digest;
  };
  if (!std::ranges::equal(directory.experts, expected, same))
    base::throw_malformed(subject, "the list of experts does not follow from the tensors");
}

/// Reads the model in either form or in both, which must then agree. Containers of version 1 from before
/// there were descriptions have `params` alone. A model that `params` can express must have them.
void parse_model(const Json& json, ContainerDirectory& directory, std::string_view subject) {
  // In version 1 the key must come first in the file (kDirectoryStarts); to_text() below writes it so.
  const Json* params = json.find("params");
  const Json* description = json.find("description");
  directory.has_description = description != nullptr;
  if (description == nullptr && directory.version > 1)
    base::throw_malformed(subject, "key 'description' is missing");
  if (description != nullptr)
    directory.description = description_from_json(*description, place_of(subject, "description"));
  if (params == nullptr) {
    if (description != nullptr && !mistral_params(directory.description)) return;
    base::throw_malformed(subject, "key 'params' is missing");
  }
  auto derived = describe(params_from_json(*params, subject));
  if (description != nullptr && derived != directory.description)
    base::throw_malformed(subject, "'params' and 'description' are of two models");
  directory.description = std::move(derived);
}

/// Directories of version 1 do not say their version.
std::uint32_t version_of(const Json& json, std::string_view subject) {
  const Json* value = json.find("version");
  if (value == nullptr) return 1;
  const std::uint64_t version = value->as_uint(subject);
  if (version < 2 || version > kContainerVersion)
    base::throw_malformed(subject, "key 'version': unknown version " + std::to_string(version));
  return static_cast<std::uint32_t>(version);
}

/// Names become words of the lines that the root covers (root_digest), so no name may look like more than one
/// word, and find_section() must have only one answer.
void check_section_names(const ContainerDirectory& directory, std::string_view subject) {
  std::set<std::string_view> names;
  for (const ContainerSection& section : directory.sections) {
    const bool plain = !section.name.empty() && std::ranges::all_of(section.name, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
             c == '_' || c == '-';
    });
    if (!plain)
      base::throw_malformed(subject, "a section's name has other characters than A-Z a-z 0-9 . _ -");
    if (!names.insert(section.name).second)
      base::throw_malformed(subject, "section '" + section.name + "' occurs twice");
  }
}

}  // namespace

/// The order of the keys is part of the format: check_container() searches for the directory's beginning and
/// compares the whole text when the footer is damaged. has_description keeps the text of older containers as
/// it was.
std::string to_text(const ContainerDirectory& directory) {
  Json json = Json::object();
  if (directory.version > 1) json.set("version", std::uint64_t{directory.version});
  if (const auto params = mistral_params(directory.description)) json.set("params", to_json(*params));
  if (directory.has_description) json.set("description", to_json(directory.description));
  json.set("tensors", list_json(directory.tensors, tensor_json));
  json.set("experts", list_json(directory.experts, expert_json));
  json.set("sections", list_json(directory.sections, section_json));
  json.set("provenance", directory.provenance);
  json.set("recipe", directory.recipe);
  return json.dump();
}

ContainerDirectory parse_directory(std::string_view text, std::string_view subject) {
  const Json json = parse_json(text, subject);
  require_known_keys(
      json, {"version", "params", "description", "tensors", "experts", "sections", "provenance", "recipe"},
      subject);
  ContainerDirectory directory;
  directory.version = version_of(json, subject);
  parse_model(json, directory, subject);
  for (const Json& item : json.at("tensors", subject).as_array(subject))
    directory.tensors.push_back(parse_tensor(item, subject));
  for (const Json& item : json.at("experts", subject).as_array(subject))
    directory.experts.push_back(parse_expert(item, subject));
  for (const Json& item : json.at("sections", subject).as_array(subject))
    directory.sections.push_back(parse_section(item, subject));
  directory.provenance = json.at("provenance", subject);
  directory.recipe = json.at("recipe", subject);
  static_cast<void>(directory.provenance.as_object(subject));
  static_cast<void>(directory.recipe.as_object(subject));
  return directory;
}

std::vector<ContainerExpert> experts_of(const std::vector<ContainerTensor>& tensors,
                                        const ModelDescription& description) {
  return experts_of(tensors, std::span<const ModelTensor>(model_tensors(description)));
}

std::vector<RootPart> root_parts(const ContainerDirectory& directory) {
  // The description's text is canonical: equal models have equal texts.
  const std::string description = to_json(directory.description).dump();
  std::vector<RootPart> parts{
      {"description", "model", base::hash<base::Sha256>(base::as_bytes(description))},
      {"tensors", "all", tensors_digest(directory.tensors)},
  };
  for (const ContainerSection& section : directory.sections)
    parts.push_back({"section", section.name, section.sha256});
  return parts;
}

ContainerDigests digests_of(const ContainerDirectory& directory) {
  const auto parts = root_parts(directory);
  return {root_digest(parts), std::ranges::find(parts, "tensors", &RootPart::kind)->digest};
}

const base::Sha256& stored_root(const ContainerDigests& digests, std::uint32_t version) {
  return version == 1 ? digests.tensors : digests.root;
}

ContainerDigests check_directory(const ContainerDirectory& directory, const ContainerFooter& footer,
                                 std::string_view subject) {
  if (directory.version != footer.version) {
    base::throw_malformed(subject, "is of version " + std::to_string(directory.version) +
                                       ", the footer of version " + std::to_string(footer.version));
  }
  const auto expected = model_tensors(directory.description);
  check_tensors(directory, expected, subject);
  check_shared_inputs(directory, expected, subject);
  check_section_names(directory, subject);
  std::vector<PayloadRange> ranges;
  for (const ContainerTensor& tensor : directory.tensors)
    ranges.push_back({tensor.name, tensor.offset_bytes, tensor.length_bytes});
  for (const ContainerSection& section : directory.sections)
    ranges.push_back({section.name, section.offset_bytes, section.length_bytes});
  // The order of the forward pass is what makes reading ahead and the experts' extents work.
  if (!std::ranges::is_sorted(directory.tensors, {}, &ContainerTensor::offset_bytes))
    base::throw_malformed(subject, "tensors do not lie in the order of the directory");
  check_ranges(std::move(ranges), footer.directory_offset_bytes, subject);
  check_experts(directory, expected, subject);
  // The footer's own SHA-256 does not cover the directory; only this comparison connects the root that a
  // manifest pins with the model, the sections and the digests that prove tensors.
  const ContainerDigests digests = digests_of(directory);
  if (stored_root(digests, footer.version) != footer.root) {
    base::throw_malformed(subject, "the root digest does not follow from " +
                                       std::string(footer.version == 1 ? "the tensors' digests"
                                                                       : "model, sections and tensors"));
  }
  return digests;
}

}  // namespace sluice::format
