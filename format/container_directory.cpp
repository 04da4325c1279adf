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
#include "format/container_entries.h"
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
  if (const auto storage = parse_storage(type, layout)) return *storage;
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

/// All tensors and sections, sorted by where they begin. The tensors must be sorted already.
std::vector<PayloadRange> payload_ranges(const ContainerDirectory& directory) {
  std::vector<PayloadRange> sections;
  for (const ContainerSection& section : directory.sections)
    sections.push_back({section.name, section.offset_bytes, section.length_bytes});
  std::ranges::stable_sort(sections, {}, &PayloadRange::offset_bytes);
  std::vector<PayloadRange> ranges;
  ranges.reserve(directory.tensors.size() + sections.size());
  auto section = sections.begin();
  for (const ContainerTensor& tensor : directory.tensors) {
    for (; section != sections.end() && section->offset_bytes < tensor.offset_bytes; ++section)
      ranges.push_back(*section);
    ranges.push_back({tensor.name, tensor.offset_bytes, tensor.length_bytes});
  }
  ranges.insert(ranges.end(), section, sections.end());
  return ranges;
}

/// Gaps are permitted, because large experts are aligned to 2 MiB; overlaps are not. `ranges` are sorted by
/// their begin.
void check_ranges(std::span<const PayloadRange> ranges, std::uint64_t payload_end_bytes,
                  std::string_view subject) {
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

/// The storages that convert can choose for a tensor, and for which the runtime has code.
bool is_possible(const ModelTensor& tensor, Storage storage) {
  // An embedding that is the head, too, may be kept as it was released.
  if (tensor.role == TensorRole::embedding && tensor.is_matrix() && storage == Storage::f32_rows) return true;
  switch (tensor.quantization) {
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
  if (!is_possible(expected, tensor.storage)) {
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

/// Matrices in mx4 hold MXFP4 as it was released, so that their source digest follows from their bytes
/// (mx/mx_rows.h).
void check_mx4(const ContainerTensor& tensor, std::string_view subject) {
  if (tensor.storage != Storage::mx4_tiles) return;
  if (tensor.source_dtype != DType::mxfp4)
    base::throw_malformed(subject, "tensor '" + tensor.name + "': has type mx4, but source_dtype " +
                                       std::string(to_string(tensor.source_dtype)) + ", expected mxfp4");
  if (tensor.shape[1] % kMx4BlockCols != 0)
    base::throw_malformed(subject, "tensor '" + tensor.name + "': has type mx4 and " +
                                       std::to_string(tensor.shape[1]) +
                                       " inputs, expected a multiple of 32");
}

/// Compares entries one by one with the model's tensors. The order of the directory is fixed, too: the
/// functions below, and those of runtime/memory/model_cost.h, pair both lists by index.
void check_tensors(const ContainerDirectory& directory, std::span<const ModelTensor> expected,
                   std::string_view subject) {
  if (directory.tensors.size() != expected.size()) {
    base::throw_malformed(subject, "has " + std::to_string(directory.tensors.size()) +
                                       " tensors, its parameters ask for " + std::to_string(expected.size()));
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    check_tensor(directory.tensors[i], expected[i], subject);
    check_mx4(directory.tensors[i], subject);
  }
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
/// from the first to the last of them. Their digests are computed together at the end, because many hashes of
/// equal length take less time than one after the other.
std::vector<ContainerExpert> experts_of(const std::vector<ContainerTensor>& tensors,
                                        std::span<const ModelTensor> expected) {
  INVARIANT(tensors.size() == expected.size());
  std::vector<ContainerExpert> experts;
  std::vector<std::size_t> counts;  // [expert] of its tensors
  std::vector<base::Sha256> tensor_digests;
  tensor_digests.reserve(tensors.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!expected[i].expert) continue;
    tensor_digests.push_back(tensors[i].digest);
    ++count;
    const bool is_last = i + 1 == expected.size() || expected[i + 1].expert != expected[i].expert ||
                         expected[i + 1].layer != expected[i].layer;
    if (!is_last) continue;
    const std::uint64_t begin = tensors[i + 1 - count].offset_bytes;
    experts.push_back({expected[i].layer, *expected[i].expert, begin,
                       tensors[i].offset_bytes + tensors[i].length_bytes - begin, base::Sha256()});
    counts.push_back(std::exchange(count, 0));
  }
  std::vector<std::span<const base::Sha256>> of_expert;
  of_expert.reserve(counts.size());
  std::span<const base::Sha256> left = tensor_digests;
  for (const std::size_t tensor_count : counts) {
    of_expert.push_back(left.first(tensor_count));
    left = left.subspan(tensor_count);
  }
  const auto digests = expert_digests(of_expert);
  for (std::size_t i = 0; i < experts.size(); ++i) experts[i].digest = digests[i];
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

namespace {

/// The members in front of the lists and behind them: one object in most texts, two where it was split.
void parse_members(const Json& before, const Json& after, ContainerDirectory& directory,
                   std::string_view subject) {
  directory.version = version_of(before, subject);
  parse_model(before, directory, subject);
  for (const Json& item : after.at("sections", subject).as_array(subject))
    directory.sections.push_back(parse_section(item, subject));
  directory.provenance = after.at("provenance", subject);
  directory.recipe = after.at("recipe", subject);
  static_cast<void>(directory.provenance.as_object(subject));
  static_cast<void>(directory.recipe.as_object(subject));
}

/// Nothing for every text that to_text() would not have written, also for one that is damaged: whatever this
/// does not take, parse_directory() reads as JSON, and its errors are the ones to tell.
std::optional<ContainerDirectory> parse_canonical(std::string_view text, std::string_view subject) {
  auto entries = split_directory(text);
  if (!entries) return std::nullopt;
  try {
    const Json before = parse_json(entries->before, subject);
    const Json after = parse_json(entries->after, subject);
    require_known_keys(before, {"version", "params", "description"}, subject);
    require_known_keys(after, {"sections", "provenance", "recipe"}, subject);
    ContainerDirectory directory;
    parse_members(before, after, directory, subject);
    directory.tensors = std::move(entries->tensors);
    directory.experts = std::move(entries->experts);
    return directory;
  } catch (const base::Error&) {  // told by parse_directory()
    return std::nullopt;
  }
}

}  // namespace

ContainerDirectory parse_directory(std::string_view text, std::string_view subject) {
  if (auto directory = parse_canonical(text, subject)) return std::move(*directory);
  const Json json = parse_json(text, subject);
  require_known_keys(
      json, {"version", "params", "description", "tensors", "experts", "sections", "provenance", "recipe"},
      subject);
  ContainerDirectory directory;
  parse_members(json, json, directory, subject);
  for (const Json& item : json.at("tensors", subject).as_array(subject))
    directory.tensors.push_back(parse_tensor(item, subject));
  for (const Json& item : json.at("experts", subject).as_array(subject))
    directory.experts.push_back(parse_expert(item, subject));
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
  // The order of the forward pass is what makes reading ahead and the experts' extents work.
  if (!std::ranges::is_sorted(directory.tensors, {}, &ContainerTensor::offset_bytes))
    base::throw_malformed(subject, "tensors do not lie in the order of the directory");
  check_ranges(payload_ranges(directory), footer.directory_offset_bytes, subject);
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
