// inspect: recognises a file or folder by its first bytes, reads its index and nothing else, and prints the
// same Inspection as JSON and as a table. It opens hostile files, so every member that it prints is checked
// and made printable here. Runs on one thread.

#include <fnmatch.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/library_observer.h"
#include "cli/options.h"
#include "cli/report.h"
#include "cli/table.h"
#include "fetch/fetch.h"
#include "format/checkpoint_index.h"
#include "format/checkpoint_kind.h"
#include "format/checkpoint_scan.h"
#include "format/container_reader.h"
#include "format/gguf/gguf.h"
#include "format/hub/sections.h"
#include "format/manifest.h"
#include "format/mistral_params.h"
#include "format/released_model.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using format::Json;

struct TensorInfo {
  std::string name;
  std::string type;
  format::Shape shape;
  std::uint64_t bytes = 0;
  std::string file;
  std::uint64_t offset_bytes = 0;
};

/// An inspection holds everything that was read of a file or folder of any kind. `facts` are further members
/// of the result, in order.
struct Inspection {
  std::string kind;
  std::vector<TensorInfo> tensors;
  Json provenance = Json::object();
  Json::Object facts;
  std::vector<verify::ChainLink> chain = {};  ///< only for a container
};

/// Offsets are those in the tensor's own file; a checkpoint may have several.
std::vector<TensorInfo> list_tensors(const format::CheckpointIndex& index) {
  std::vector<TensorInfo> tensors;
  for (const auto& tensor : index.tensors) {
    tensors.push_back({tensor.name, std::string(format::to_string(tensor.dtype)), tensor.shape,
                       tensor.extent_bytes, index.files[tensor.file_index].filename().string(),
                       tensor.offset_bytes});
  }
  return tensors;
}

/// Quantized blocks show that the weights are not the released ones.
void add_lossy(const format::CheckpointIndex& index, Json::Object& facts) {
  const auto quantized = [&](const auto& tensor) {
    return format::block_weights(tensor.dtype) > 1 && !format::is_released_type(index, tensor.dtype);
  };
  if (std::ranges::any_of(index.tensors, quantized)) facts.emplace_back("lossy", true);
}

/// The parameters under Mistral's keys; null for a model that these keys cannot describe, which only the
/// "description" then does.
Json params_or_null(const format::ModelDescription& description) {
  const auto params = format::mistral_params(description);
  return params ? format::to_json(*params) : Json(nullptr);
}

Inspection inspect_checkpoint(const fs::path& path, format::CheckpointKind kind) {
  // A GGUF file is complete in itself, or with its shards. The other kinds need the files around them, which
  // inspect_release() reads.
  const bool complete = kind == format::CheckpointKind::gguf;
  const auto index = complete ? format::open_checkpoint(path) : format::open_checkpoint_file(kind, path);
  Inspection found{std::string(format::to_string(kind)), list_tensors(index), Json::object(), {}};
  std::uint64_t bytes = 0;
  for (const auto& file : index.files) bytes += fs::file_size(file);
  found.facts = {{"bytes", bytes}};
  if (index.files.size() > 1) found.facts.emplace_back("shards", index.files.size());
  add_lossy(index, found.facts);
  if (complete) {
    const auto description = format::gguf_config(index).description;
    found.facts.emplace_back("params", params_or_null(description));
    found.facts.emplace_back("description", format::to_json(description));
  }
  return found;
}

/// The kind of tokenizer, the size of the chat template (null without one) and the recommended sampling.
void add_chat_facts(format::TokenizerKind kind, std::string_view chat_template,
                    const std::string& generation_config, const std::string& subject, Json::Object& facts) {
  facts.emplace_back("tokenizer", std::string(format::file_name(kind)));
  facts.emplace_back("chat_template_bytes", chat_template.empty() ? Json() : Json(chat_template.size()));
  const auto defaults = format::parse_generation_defaults(generation_config, subject);
  Json sampling = Json::object();
  const auto add = [&](const char* name, const auto& value) {
    if (value) sampling.set(name, *value);
  };
  add("temperature", defaults.temperature);
  add("top_p", defaults.top_p);
  add("top_k", defaults.top_k);
  add("min_p", defaults.min_p);
  add("repetition_penalty", defaults.repetition_penalty);
  facts.emplace_back("generation_defaults", std::move(sampling));
}

/// Members of a container without a tokenizer, or with bad sections, say so: inspect also shows what is
/// wrong.
void add_chat_facts(const format::ContainerReader& reader, Json::Object& facts) {
  try {
    const auto parts = format::tokenizer_parts(reader);
    facts.emplace_back("end_ids", Json::array_of(parts.facts.end_ids));
    add_chat_facts(parts.kind, format::read_section(reader, format::kChatTemplateSection),
                   std::string(format::read_section(reader, format::kGenerationConfigSection)),
                   reader.path().string(), facts);
  } catch (const base::Error& error) {
    facts.emplace_back("tokenizer_problem", error.what());
  }
}

Inspection inspect_container(const fs::path& path) {
  const auto reader = format::ContainerReader::open(path);
  Inspection found{"sluice", {}, reader.provenance(), {}};
  for (const auto& tensor : reader.tensors()) {
    found.tensors.push_back({tensor.name, std::string(format::type_name(tensor.storage)), tensor.shape,
                             tensor.length_bytes, path.filename().string(), tensor.offset_bytes});
  }
  Json sections = Json::array();
  for (const auto& section : reader.sections()) sections.push_back(section.name);
  // What the root covers, so that containers whose roots differ can be compared part by part.
  Json covered = Json::array();
  for (const auto& part : reader.root_parts())
    covered.push_back(
        Json::object({{"kind", part.kind}, {"name", part.name}, {"sha256", base::to_hex(part.digest)}}));
  found.facts = {{"bytes", reader.footer().file_bytes},
                 {"format_version", reader.footer().version},
                 {"params", params_or_null(reader.description())},
                 {"description", format::to_json(reader.description())},
                 {"recipe", reader.recipe()},
                 {"sections", std::move(sections)},
                 {"root_sha256", base::to_hex(reader.root())},
                 {"root_covers", std::move(covered)},
                 {"tensors_sha256", base::to_hex(reader.tensors_sha256())}};
  add_chat_facts(reader, found.facts);
  return found;
}

Json layout_files(const format::ReleaseLayout& layout) {
  Json files = Json::array();
  for (const auto& file : layout.files) {
    // Pad files (BEP 47) are never on disk.
    if (file.pad) continue;
    files.push_back(
        Json::object({{"path", file.path}, {"bytes", file.length_bytes}, {"root", hex_or_null(file.root)}}));
  }
  return files;
}

Inspection inspect_torrent(const fs::path& path) {
  const auto layout = fetch::read_torrent(path);
  Inspection found{"torrent", {}, Json::object(), {}};
  found.provenance.set("infohash_v1", hex_or_null(layout.infohash_v1));
  found.provenance.set("infohash_v2", hex_or_null(layout.infohash_v2));
  found.facts = {{"name", layout.name},
                 {"bytes", layout.payload_bytes()},
                 {"piece_bytes", layout.piece_bytes},
                 {"files", layout_files(layout)}};
  if (!layout.warnings.empty()) {
    Json warnings = Json::array();
    for (const auto& warning : layout.warnings) warnings.push_back(warning);
    found.facts.emplace_back("warnings", std::move(warnings));
  }
  return found;
}

Inspection inspect_manifest(const fs::path& path) {
  const auto manifest = format::read_manifest(path);
  Inspection found{"manifest", {}, Json::object(), {}};
  found.provenance = Json::object({{"source", manifest.source},
                                   {"infohash_v1", hex_or_null(manifest.infohash_v1)},
                                   {"infohash_v2", hex_or_null(manifest.infohash_v2)},
                                   {"licence", manifest.licence}});
  Json files = Json::array();
  for (const auto& file : manifest.files) {
    auto json = Json::object({{"path", file.path}});
    if (file.length_bytes) json.set("bytes", *file.length_bytes);
    if (file.sha256) json.set("sha256", base::to_hex(*file.sha256));
    if (file.md5) json.set("md5", base::to_hex(*file.md5));
    files.push_back(std::move(json));
  }
  found.facts = {{"name", manifest.name},
                 {"description", manifest.description},
                 {"magnet", manifest.magnet()},
                 {"files", std::move(files)}};
  if (manifest.params) found.facts.emplace_back("params", format::to_json(*manifest.params));
  if (manifest.tensor_count) found.facts.emplace_back("tensors_expected", *manifest.tensor_count);
  if (manifest.parameter_count) found.facts.emplace_back("parameters_expected", *manifest.parameter_count);
  return found;
}

Inspection inspect_release(const fs::path& folder, const library::Context& context) {
  const auto index = format::open_checkpoint(folder);
  // This verifies signatures, and no digest of the release: inspect does not read weights.
  const auto known = library::find_references(folder, {}, context);
  Inspection found{"release", list_tensors(index), Json::object(), {}};
  // null says that nobody has stated the value; an empty text would look like a value.
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  found.provenance = Json::object({{"name", or_null(known.release_name())},
                                   {"infohash_v1", or_null(known.infohash_v1())},
                                   {"infohash_v2", or_null(known.infohash_v2())},
                                   {"licence", or_null(known.licence())},
                                   {"proven", false},  // proving takes sluice verify
                                   {"found_in", Json::array_of(known.found_in)}});
  found.facts = {{"checkpoint", std::string(format::to_string(index.kind))}};
  Json checkpoint_files = Json::array();
  for (const auto& file : index.files) checkpoint_files.push_back(file.filename().string());
  found.facts.emplace_back("checkpoint_files", std::move(checkpoint_files));
  add_lossy(index, found.facts);
  try {
    const auto model = format::open_released_model(folder);
    found.facts.emplace_back("layout", model.layout);
    found.facts.emplace_back("params", params_or_null(model.description));
    found.facts.emplace_back("description", format::to_json(model.description));
    found.facts.emplace_back("end_ids", Json::array_of(model.tokens.end_ids));
    found.facts.emplace_back("added_tokens", model.tokens.added.size());
    add_chat_facts(model.tokenizer_kind, model.chat.chat_template, model.chat.generation_config,
                   folder.string(), found.facts);
    found.facts.emplace_back("skipped_keys", Json::array_of(model.skipped_keys));
    Json skipped = Json::object();
    for (const auto& [group, tensors] : model.skipped_tensors) skipped.set(group, tensors);
    found.facts.emplace_back("skipped_tensors", std::move(skipped));
  } catch (const base::Error& error) {
    // A checkpoint whose layout is not known can still be inspected: its tensors are listed, and the reason
    // is a fact like the others.
    if (error.kind() != base::ErrorKind::malformed) throw;
    found.facts.emplace_back("not_convertible", error.what());
  }
  return found;
}

Inspection inspect_file(const fs::path& path) {
  // Kinds with unmistakable marks come first; torrents and manifests have no magic number and are guessed
  // from their first bytes.
  if (library::is_container_file(path)) return inspect_container(path);
  if (const auto kind = format::recognise_checkpoint(path)) return inspect_checkpoint(path, *kind);
  const std::string text = format::read_head(base::File::open_read(path));
  // A torrent is a bencoded dictionary (BEP 3): "d", then the length of its first key in decimal.
  if (path.extension() == ".torrent" ||
      (text.size() >= 4 && text[0] == 'd' && text[1] >= '1' && text[1] <= '9')) {
    return inspect_torrent(path);
  }
  if (path.filename() == "params.json" || path.filename() == "config.json")
    throw base::Error(base::ErrorKind::usage,
                      path.string() + ": holds the parameters of a model; inspect its folder");
  if (path.extension() == ".json" || text.starts_with('{')) return inspect_manifest(path);
  // A pickle outside of a zip file is refused with a message that says what it would have executed.
  if (!format::scan_pickles(path, format::PickleSearch::directory).empty())
    return inspect_checkpoint(path, format::CheckpointKind::pth);
  base::throw_malformed(
      path.string(),
      "is neither a checkpoint (.pth, safetensors, GGUF), a .sluice file, a torrent nor a manifest");
}

/// Returns 0 for a shape whose product does not fit into 64 bits: the file is hostile, and the count is for
/// people.
std::uint64_t elements(const format::Shape& shape) { return format::element_count(shape).value_or(0); }

void print_tensors(const Inspection& found, const std::string& glob, Console& console) {
  Table table({3, 4});
  for (const auto& tensor : found.tensors) {
    // Without flags, "*" also matches dots and slashes, as tensor names need it.
    if (::fnmatch(glob.c_str(), tensor.name.c_str(), 0) != 0) continue;
    console.event(Json::object({{"event", "tensor"},
                                {"name", tensor.name},
                                {"dtype", tensor.type},
                                {"shape", Json::array_of(tensor.shape)},
                                {"bytes", tensor.bytes},
                                {"file", tensor.file},
                                {"offset", tensor.offset_bytes}}));
    table.add_row({base::to_printable(tensor.name), tensor.type, format::to_string(tensor.shape),
                   with_commas(tensor.bytes), with_commas(tensor.offset_bytes)});
  }
  console.print(table);
}

// Prints one line for each kind of tensor. Members are checked, because the reader accepts any JSON object as
// a recipe.
void print_kinds(const Json& quality, const std::string& prefix, Table& table) {
  const Json* kinds = quality.find("kinds");
  if (kinds == nullptr || !kinds->is_array()) return;
  for (const Json& kind : kinds->as_array("kinds")) {
    if (!kind.is_object()) continue;
    const Json* name = kind.find("name");
    const Json* type = kind.find("type");
    const Json* bits = kind.find("bits_per_weight");
    const Json* error = kind.find("relative_error");
    if (name == nullptr || !name->is_string() || type == nullptr || !type->is_string() || bits == nullptr ||
        !bits->is_number() || error == nullptr || !error->is_number())
      continue;
    table.add_row({prefix + base::to_printable(name->as_string("name")),
                   base::to_printable(type->as_string("type")) +
                       format_number(", %.2f bits a weight", bits->as_double("bits_per_weight")) +
                       format_number(", relative error %.5f", error->as_double("relative_error"))});
  }
}

bool has_params(const Json::Object& facts) {
  return std::ranges::any_of(
      facts, [](const Json::Member& member) { return member.first == "params" && !member.second.is_null(); });
}

// Prints short values for people; long nested ones are left to --json.
void print_facts(const Json::Object& facts, const std::string& prefix, Table& table) {
  for (const auto& [key, value] : facts) {
    if (value.is_string()) {
      const auto& text = value.as_string(key);
      if (!text.empty()) table.add_row({prefix + key, base::to_printable(text)});
    } else if (value.is_object() && key == "quality") {
      print_kinds(value, prefix + "quality.", table);  // one line for each tensor is left to --json
    } else if (value.is_object() && key == "description" && has_params(facts)) {
      // The parameters say it shorter.
    } else if (value.is_object()) {
      print_facts(value.as_object(key), prefix + key + ".", table);
    } else if (value.is_array() && key == "files") {
      for (const Json& file : value.as_array(key)) {
        const Json* bytes = file.find("bytes");
        table.add_row(
            {"file", base::to_printable(file.at("path", key).as_string(key)) +
                         (bytes == nullptr ? "" : "  " + base::to_human_bytes(bytes->as_uint(key)))});
      }
    } else if (value.is_array()) {
      for (const Json& item : value.as_array(key)) {
        if (item.is_string()) table.add_row({prefix + key, base::to_printable(item.as_string(key))});
      }
    } else if (!value.is_null()) {
      table.add_row({prefix + key, value.dump()});
    }
  }
}

// Prints the release and the digests of its files, as the container records them.
void print_origin(const Json& provenance, Table& table) {
  for (const char* key : {"release", "infohash_v1", "infohash_v2", "licence"}) {
    const Json* value = provenance.find(key);
    if (value != nullptr && value->is_string())
      table.add_row({key, base::to_printable(value->as_string(key))});
  }
  if (const std::string damage = library::describe_damaged_sources(provenance); !damage.empty())
    table.add_row({"damaged", damage});
  const Json* files = provenance.find("files");
  if (files == nullptr || !files->is_array()) return;
  for (const Json& file : files->as_array("files")) {
    std::string line;
    for (const char* key : {"path", "sha256", "pieces_root"}) {
      const Json* value = file.is_object() ? file.find(key) : nullptr;
      if (value == nullptr || !value->is_string()) continue;
      line += (line.empty() ? "" : std::string("  ") + key + " ") + base::to_printable(value->as_string(key));
    }
    table.add_row({"made from", line});
  }
}

/// Parameters, and tensors of each type. std::map sorts the types, so equal files give equal output.
struct Totals {
  std::uint64_t parameters = 0;
  std::map<std::string, std::uint64_t> types;

  [[nodiscard]] Json types_json() const {
    Json counts = Json::object();
    for (const auto& [type, count] : types) counts.set(type, count);
    return counts;
  }
};

Totals add_up(const Inspection& found) {
  Totals totals;
  for (const auto& tensor : found.tensors) {
    totals.parameters += elements(tensor.shape);
    ++totals.types[tensor.type];
  }
  return totals;
}

Table make_table(const Inspection& found, const Totals& totals) {
  Table table;
  table.add_row({"kind", found.kind});
  if (!found.tensors.empty()) {
    table.add_row({"tensors", with_commas(found.tensors.size())});
    table.add_row({"parameters", with_commas(totals.parameters)});
    for (const auto& [type, count] : totals.types) table.add_row({"of type " + type, with_commas(count)});
  }
  print_facts(found.facts, "", table);
  // The chain says more about a container's origin than its raw provenance.
  if (found.chain.empty()) {
    print_facts(found.provenance.as_object("provenance"), "provenance.", table);
  } else {
    print_origin(found.provenance, table);
  }
  return table;
}

}  // namespace

int inspect_command(const Invocation& invocation) {
  Console& console = invocation.console;
  std::string name;
  std::string glob;
  Options options("inspect", "Shows what a file or folder is and what it holds, without loading it.",
                  "sluice inspect model.sluice --tensors 'layers.0.*'");
  options.add_argument("PATH", name,
                       "Release folder, checkpoint, .sluice file, torrent or manifest; or a name that sluice "
                       "releases or sluice models lists");
  options.add_text("--tensors GLOB", glob, "List the tensors whose names match GLOB; '*' lists all");
  options.parse(invocation);

  const LibraryAccess access(invocation);
  const fs::path path = library::find_local(name, access.context());
  auto found = fs::is_directory(path) ? inspect_release(path, access.context()) : inspect_file(path);
  // The release stays closed: comparing its files takes as long as verify, which does that.
  if (found.kind == "sluice")
    found.chain = library::check_chain(path, {}, library::ReleaseFiles::leave_closed, {}, access.context());

  const Totals totals = add_up(found);
  if (!glob.empty()) print_tensors(found, glob, console);
  auto result = Json::object({{"event", "result"},
                              {"kind", found.kind},
                              {"tensors", found.tensors.size()},
                              {"parameters", totals.parameters},
                              {"dtypes", totals.types_json()},
                              {"provenance", found.provenance}});
  // Facts of a kind are members of the result itself, so a program finds "params" or "files" without knowing
  // the kind.
  for (const auto& [key, value] : found.facts) result.set(key, value);
  if (!found.chain.empty()) result.set("chain", chain_json(found.chain));
  // Only the key id is read. The state is "unchecked", because a signature covers the whole file, and inspect
  // reads only the index.
  const auto signer = library::find_signer(path);
  if (signer) result.set("signature", Json::object({{"state", "unchecked"}, {"key_id", *signer}}));
  console.event(result);

  // With --quiet and a glob the list of tensors is the result.
  if (glob.empty() || !console.quiet()) console.print(make_table(found, totals));
  print_chain(found.chain, console);
  if (signer) {
    console.print(marked('?', "signature: by key " + *signer + "; sluice verify checks it"));
  } else if (found.kind == "sluice" || found.kind == "manifest") {
    console.print(marked('?', "signature: there is none"));
  }
  return 0;
}

}  // namespace sluice::cli
