// Compares the links of a container's chain (verify.h) in order: release, files, file content, tensors,
// kept tensors, tokenizer, chat files, parameters, recipe, root. A link compares only with its direct
// neighbours: "file content" with the recorded digests, not with the torrent. Runs in the caller's thread;
// verify_release() and digest_tensors() use several.

#include "verify/verify.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/hasher.h"
#include "base/text.h"
#include "format/checkpoint_index.h"
#include "format/hub/family_config.h"
#include "format/hub/sections.h"
#include "format/released_model.h"
#include "format/tensor_digests.h"
#include "verify/kept_tensors.h"

namespace sluice::verify {
namespace {

using format::Json;

// The subject that format's readers ask for. Their errors about a record are never shown, because an entry of
// another form counts as absent.
constexpr const char* kSubject = "provenance";

/// A file of the release as the container records it.
struct RecordedFile {
  std::string path;
  std::optional<std::uint64_t> length_bytes;
  std::optional<base::Sha256> sha256;
  std::optional<base::Sha256> root;
};

/// A member of another type counts as absent: the provenance comes from the container, which anyone can have
/// made.
std::string text_of(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  return value != nullptr && value->is_string() ? value->as_string(kSubject) : std::string();
}

/// A section that says how conversations become tokens and how answers are sampled.
bool is_chat_file(std::string_view section) {
  return section == format::kTokenFactsSection || section == format::kTokenizerConfigSection ||
         section == format::kGenerationConfigSection || section == format::kChatTemplateSection;
}

std::map<std::string_view, base::Sha256> digests_of_chat_files(const format::ReleasedModel& release) {
  std::map<std::string_view, base::Sha256> digests;
  for (const format::ReleasedSection& section : format::released_sections(release))
    if (is_chat_file(section.name))
      digests[section.name] = base::hash<base::Sha256>(base::as_bytes(section.content));
  return digests;
}

/// The files of the release as the container lists them. Anyone can have written the list: entries of another
/// form than convert writes are ignored.
std::vector<RecordedFile> recorded_files(const Json& provenance) {
  std::vector<RecordedFile> files;
  const Json* list = provenance.find("files");
  if (list == nullptr || !list->is_array()) return files;
  for (const Json& entry : list->as_array(kSubject)) {
    if (!entry.is_object()) continue;
    RecordedFile file{text_of(entry, "path"),
                      {},
                      base::parse_digest<base::Sha256>(text_of(entry, "sha256")),
                      base::parse_digest<base::Sha256>(text_of(entry, "pieces_root"))};
    // A path that would leave the release's folder is dropped here, before check_content() opens files by it.
    // Of several entries for one path the first counts, so that a file is compared with one set of digests.
    try {
      format::check_release_path(file.path, kSubject);
      if (const Json* bytes = entry.find("bytes")) file.length_bytes = bytes->as_uint(kSubject);
      if (std::ranges::find(files, file.path, &RecordedFile::path) == files.end())
        files.push_back(std::move(file));
    } catch (const base::Error& error) {
      if (error.kind() != base::ErrorKind::malformed) throw;
    }
  }
  return files;
}

/// True when the release has the tensor that the container names as its source. `released` is sorted by name.
bool is_made_from(const format::ContainerTensor& tensor,
                  const std::vector<format::ManifestTensor>& released) {
  const auto found = std::ranges::lower_bound(released, tensor.name, {}, &format::ManifestTensor::name);
  return found != released.end() && found->name == tensor.name && found->dtype == tensor.source_dtype &&
         found->shape == tensor.shape && found->digest == tensor.source_digest;
}

/// Checks one chain. The links are added in the order in which they are checked; check_content() relies on
/// that when it looks at the links before it.
class ChainChecker {
 public:
  ChainChecker(const format::ContainerReader& container, const ChainInputs& inputs, const Options& options,
               base::Progress& progress, const std::stop_token& stop)
      : container_(container),
        inputs_(inputs),
        options_(options),
        progress_(progress),
        stop_(stop),
        files_(recorded_files(container.provenance())) {}

  std::vector<ChainLink> check() {
    // The order is that of verify.h. Each link needs only what the links before it have established.
    check_release();
    check_files();
    check_content();
    const auto released = open_release();
    check_tensors(released);
    if (auto kept = check_kept_tensors(container_, inputs_, options_, progress_, stop_))
      links_.push_back(std::move(*kept));
    check_tokenizer(released);
    check_chat_files(released);
    check_parameters(released);
    add("recipe", LinkState::unknown, recipe());
    check_root();
    // Sections of a file that was cut meanwhile would differ, and the cut is the error to tell.
    container_.require_whole();
    return std::move(links_);
  }

 private:
  // Details are printed to a terminal, so every text that the container holds goes through
  // base::to_printable() before it becomes part of one.
  void add(std::string link, LinkState state, std::string detail) {
    links_.push_back({std::move(link), state, std::move(detail)});
  }

  [[nodiscard]] bool nothing_at_hand() const { return !inputs_.release.layout && !inputs_.release.manifest; }

  /// Link "release": the info-hashes that the container names are those of the torrent or manifest.
  void check_release() {
    const Json& provenance = container_.provenance();
    const std::string name = base::to_printable(text_of(provenance, "release"));
    std::string detail = name.empty() ? "no release is named" : name;
    std::vector<std::pair<std::string, std::string>> pairs;  // recorded and referenced
    const auto& layout = inputs_.release.layout;
    const auto& manifest = inputs_.release.manifest;
    const auto compare = [&](const char* key, const std::string& torrent, const std::string& stated) {
      const std::string recorded = text_of(provenance, key);
      if (recorded.empty()) return;
      detail += ", " + std::string(key) + " " + base::to_printable(recorded);
      for (const std::string& other : {torrent, stated})
        if (!other.empty()) pairs.emplace_back(recorded, other);
    };
    compare("infohash_v1", layout ? base::to_hex_or_empty(layout->infohash_v1) : "",
            manifest ? base::to_hex_or_empty(manifest->infohash_v1) : "");
    compare("infohash_v2", layout ? base::to_hex_or_empty(layout->infohash_v2) : "",
            manifest ? base::to_hex_or_empty(manifest->infohash_v2) : "");
    // One info-hash that differs is enough: the v1 and v2 hashes of a hybrid torrent stand for the same
    // release, so a container that agrees with one and not with the other was not made from it.
    const auto different =
        std::ranges::find_if(pairs, [](const auto& pair) { return pair.first != pair.second; });
    if (different != pairs.end())
      return add("release", LinkState::differs, detail + ": " + inputs_.source + " has " + different->second);
    if (!pairs.empty()) return add("release", LinkState::checked, detail + ": as in " + inputs_.source);
    // Nothing was compared. The three reasons call for different actions of the user, so each has its own
    // words.
    const bool named =
        !text_of(provenance, "infohash_v1").empty() || !text_of(provenance, "infohash_v2").empty();
    add("release", LinkState::unknown,
        detail + (!named              ? ": the container names no info-hash"
                  : nothing_at_hand() ? ": no torrent or manifest of it is at hand"
                                      : ": " + inputs_.source + " has no info-hash to compare"));
  }

  /// Link "files": the file digests that the container records are those of the torrent and manifest.
  void check_files() {
    if (files_.empty()) return add("files", LinkState::unknown, "the container names no files of a release");
    const std::string count = base::to_counted(files_.size(), "file");
    if (nothing_at_hand())
      return add("files", LinkState::unknown, count + ": no torrent or manifest of the release is at hand");
    std::size_t compared = 0;
    for (const RecordedFile& file : files_) {
      const auto differs = compare_recorded(file);
      if (!differs) continue;
      if (*differs) {
        return add("files", LinkState::differs,
                   base::to_printable(file.path) + " has another digest or size in " + inputs_.source);
      }
      // A file without a digest on both sides proves nothing, and the link holds only when every recorded
      // file was compared.
      ++compared;
    }
    if (compared == files_.size())
      return add("files", LinkState::checked, "the digests of " + count + " are those of " + inputs_.source);
    add("files", LinkState::unknown,
        std::to_string(files_.size() - compared) + " of " + count + " have no digest in " + inputs_.source);
  }

  /// True when torrent or manifest contradict the record of a file; nothing when no digest is in both.
  [[nodiscard]] std::optional<bool> compare_recorded(const RecordedFile& file) const {
    std::optional<bool> differs;
    const auto compare = [&](const auto& recorded, const auto& expected) {
      if (recorded && expected) differs = differs.value_or(false) || *recorded != *expected;
    };
    const auto& layout = inputs_.release.layout;
    const auto& manifest = inputs_.release.manifest;
    if (layout) {
      const auto released = std::ranges::find(layout->files, file.path, &format::ReleaseFile::path);
      // A file that the torrent does not list has nothing to be compared with: the torrent lists the whole
      // release.
      if (released == layout->files.end()) return std::nullopt;
      compare(file.root, released->root);
      if (file.length_bytes && *file.length_bytes != released->length_bytes) differs = true;
    }
    if (const auto* stated = manifest ? manifest->find_file(file.path) : nullptr) {
      compare(file.sha256, stated->sha256);
      compare(file.root, stated->root);
    }
    return differs;
  }

  /// Link "file content": the files on disk have the digests that the container records.
  void check_content() {
    if (files_.empty()) return;
    if (!can_read("file content")) return;
    Expectations recorded;
    // A v1 torrent has no file digests that the container could record, so its pieces are the link. They may
    // be used only when the container names this torrent (link "release") and does not contradict it (link
    // "files"); otherwise the files would be compared with another release.
    if (links_.front().state == LinkState::checked && links_.back().state != LinkState::differs)
      recorded.layout = inputs_.release.layout;
    recorded.manifest.emplace();
    for (const RecordedFile& file : files_) {
      format::ManifestFile entry;
      entry.path = file.path;
      entry.length_bytes = file.length_bytes;
      entry.sha256 = file.sha256;
      entry.root = file.root;
      recorded.manifest->files.push_back(std::move(entry));
    }
    // The recorded digests take the place of a manifest, so this link is checked by the code that verifies
    // releases.
    const Report report = verify_release(inputs_.folder, recorded, options_, progress_, stop_);
    for (const FileReport& file : report.files) {
      if (file.state == FileState::ok || file.state == FileState::extra) continue;
      // Bytes that differ or are missing refute the link. A file that cannot be read, or that has no digest,
      // says nothing about it.
      const bool differs = file.state == FileState::damaged || file.state == FileState::missing;
      return add("file content", differs ? LinkState::differs : LinkState::unknown,
                 base::to_printable(file.path) + " in " + inputs_.folder.string() + ": " +
                     std::string(to_string(file.state)) + ", " + file.problem);
    }
    add("file content", LinkState::checked,
        base::to_counted(files_.size(), "file") + " in " + inputs_.folder.string() + " have these digests");
  }

  /// The model that the release's files hold; nothing when they are not at hand or are not a readable model.
  /// The link before says whether they are the recorded ones.
  [[nodiscard]] std::optional<format::ReleasedModel> open_release() {
    if (inputs_.folder.empty() || !inputs_.read_files) return std::nullopt;
    try {
      return format::open_released_model(inputs_.folder);
    } catch (const base::Error& error) {
      if (error.kind() != base::ErrorKind::malformed) throw;
      unreadable_ = error.what();
      return std::nullopt;
    }
  }

  /// Link "tensors": the tensors in these files have the digests that the container records as its sources.
  void check_tensors(const std::optional<format::ReleasedModel>& model) {
    if (!can_read("tensors")) return;
    if (!model) return add("tensors", LinkState::unknown, unreadable_);
    try {
      // This reads the files a second time. Tensors do not begin or end where files and pieces do, so the
      // digests of the files cannot be reused.
      const auto released =
          format::digest_tensors(*model, std::max(1u, options_.thread_count), progress_, stop_);
      const std::string count = base::to_counted(container_.tensors().size(), "tensor");
      std::vector<std::string> differing;
      for (const format::ContainerTensor& tensor : container_.tensors())
        if (!is_made_from(tensor, released)) differing.push_back(tensor.name);
      if (differing.empty())
        return add("tensors", LinkState::checked,
                   count + " were made from those of " + inputs_.folder.string());
      add("tensors", LinkState::differs,
          std::to_string(differing.size()) + " of " + count + " of " + inputs_.folder.string() +
              " differ, first '" + differing.front() + "'");
    } catch (const base::Error& error) {
      if (error.kind() != base::ErrorKind::malformed) throw;
      add("tensors", LinkState::unknown, error.what());
    }
  }

  /// Link "tokenizer": the container's tokenizer is the release's.
  void check_tokenizer(const std::optional<format::ReleasedModel>& released) {
    auto kind = format::TokenizerKind::sentencepiece;
    for (const format::TokenizerKind one : format::kTokenizerKinds)
      if (container_.find_section(format::section_name(one)) != nullptr) kind = one;
    // tokenizer.model has versions behind its name.
    const auto is_tokenizer = [kind](std::string_view name) {
      return kind == format::TokenizerKind::sentencepiece ? name.starts_with(format::file_name(kind))
                                                          : name == format::file_name(kind);
    };
    std::optional<base::Bytes> content;
    if (released) content = released->tokenizer;
    compare_section("tokenizer", format::section_name(kind), content, is_tokenizer);
  }

  /// Link "chat files", where there are any: what the container says of tokens, conversations and sampling is
  /// what the release says. They decide the text as the weights do, and strangers could change them.
  void check_chat_files(const std::optional<format::ReleasedModel>& released) {
    std::map<std::string_view, base::Sha256> kept;
    for (const format::ContainerSection& section : container_.sections())
      if (is_chat_file(section.name)) kept[section.name] = section.sha256;
    std::map<std::string_view, base::Sha256> expected;
    if (released) expected = digests_of_chat_files(*released);
    if (kept.empty() && expected.empty()) return;
    if (!can_read("chat files")) return;
    if (!released) return add("chat files", LinkState::unknown, unreadable_);
    for (const auto& [name, sha256] : kept) {
      const auto found = expected.find(name);
      if (found != expected.end() && found->second == sha256) continue;
      return add("chat files", LinkState::differs,
                 std::string(name) + (found == expected.end()
                                          ? ": " + inputs_.folder.string() + " has none"
                                          : " is another one than in " + inputs_.folder.string()));
    }
    // Earlier versions kept fewer files, so a file that is missing is no forgery yet.
    for (const auto& [name, sha256] : expected) {
      if (kept.contains(name)) continue;
      return add("chat files", LinkState::unknown,
                 "the container lacks " + std::string(name) + ", which " + inputs_.folder.string() + " has");
    }
    add("chat files", LinkState::checked,
        base::to_counted(kept.size(), "file") + " as in " + inputs_.folder.string());
  }

  /// Link "parameters": the container's model parameters are the release's, and its description of the model
  /// follows from them. The description is what is computed.
  void check_parameters(const std::optional<format::ReleasedModel>& released) {
    const auto is_params = [](std::string_view name) {
      return name == "params.json" || name == "config.json";
    };
    if (released ? released->description != container_.description() : contradicts_own_parameters()) {
      return add("parameters", LinkState::differs,
                 "the model that the container describes is not that of " +
                     (released ? inputs_.folder.string() : "the parameters that it holds"));
    }
    std::optional<base::Bytes> content;
    if (released) content = base::as_bytes(released->params_text);
    compare_section("parameters", "params.json", content, is_params);
  }

  /// The SHA-256 of all files of such a name, without their folders.
  template <typename F>
  [[nodiscard]] static std::vector<base::Sha256> digests_of(const auto& files, F is_named_so) {
    std::vector<base::Sha256> digests;
    for (const auto& file : files)
      if (file.sha256 && is_named_so(file.path.substr(file.path.rfind('/') + 1)))
        digests.push_back(*file.sha256);
    return digests;
  }

  /// Compares a section with what the release's files hold, if they are at hand, and with the digests that
  /// are stated for files of such a name. A release may have several of them, for two layouts. Digests that
  /// the container records are its own word until link "file content" has compared them with the files.
  template <typename F>
  void compare_section(const char* link, std::string_view name, const std::optional<base::Bytes>& released,
                       F is_named_so) {
    const format::ContainerSection* section = container_.find_section(name);
    if (section == nullptr) return add(link, LinkState::unknown, "the container has none");
    const auto contains = [&](const std::vector<base::Sha256>& digests) {
      return std::ranges::find(digests, section->sha256) != digests.end();
    };
    if (released && section->sha256 == base::hash<base::Sha256>(*released))
      return add(link, LinkState::checked, "as in " + inputs_.folder.string());
    const auto& manifest = inputs_.release.manifest;
    const auto stated = manifest ? digests_of(manifest->files, is_named_so) : std::vector<base::Sha256>();
    if (contains(stated)) return add(link, LinkState::checked, "its SHA-256 is in " + inputs_.source);
    const auto recorded = digests_of(files_, is_named_so);
    const bool files_are_recorded = std::ranges::any_of(links_, [](const ChainLink& one) {
      return one.link == "file content" && one.state == LinkState::checked;
    });
    if (contains(recorded) && files_are_recorded)
      return add(link, LinkState::checked, "its SHA-256 is that of a file in " + inputs_.folder.string());
    if (released) return add(link, LinkState::differs, "another one than in " + inputs_.folder.string());
    // The sections of a container made from GGUF are parts of that file.
    if (std::ranges::any_of(files_, [](const RecordedFile& file) { return file.path.ends_with(".gguf"); }))
      return add(link, LinkState::unknown, "it was in a GGUF file, which is not at hand");
    if (!stated.empty())
      return add(link, LinkState::differs, "its SHA-256 is not that of the file in " + inputs_.source);
    if (!recorded.empty() && !contains(recorded)) {
      return add(link, LinkState::differs,
                 "its SHA-256 is not that of the file that the container says it was made from");
    }
    add(link, LinkState::unknown, "no SHA-256 of it is at hand");
  }

  /// True when the parameters that the container holds are of another model than its description.
  [[nodiscard]] bool contradicts_own_parameters() const {
    const format::ContainerSection* section = container_.find_section("params.json");
    if (section == nullptr || !container_.matches_digest(*section)) return false;
    try {
      const auto text = base::as_text(container_.bytes(*section));
      return format::parse_model_config(text, kSubject).description != container_.description();
    } catch (const base::Error& error) {
      // Parameters in a dialect that this program does not know.
      if (error.kind() != base::ErrorKind::malformed) throw;
      return false;
    }
  }

  /// False when the release's files may not be read; the link is then added as unknown.
  [[nodiscard]] bool can_read(const char* link) {
    if (inputs_.folder.empty()) {
      add(link, LinkState::unknown, "the files of the release are not at hand");
    } else if (!inputs_.read_files) {
      add(link, LinkState::unknown,
          "not compared with " + inputs_.folder.string() + ": sluice verify does that");
    }
    return !inputs_.folder.empty() && inputs_.read_files;
  }

  /// The recipe is the container's own word. Rounding loses information, so the stored weights do not tell by
  /// which choices they were made.
  [[nodiscard]] std::string recipe() const {
    const std::string quant = base::to_printable(text_of(container_.recipe(), "quant"));
    return (quant.empty() ? std::string("no quantization is named") : quant) +
           ": only converting again would show it";
  }

  /// Link "root": somebody outside the container names its root. Roots that a manifest names for other
  /// containers do not refute this one, because each conversion has its own root; ContainerTrust is stricter
  /// when the user names the manifest.
  void check_root() {
    const std::string hex = base::to_hex(container_.root());
    const std::string weights = base::to_hex(container_.tensors_sha256());
    const auto find = [&](PinCoverage coverage) {
      const auto found = std::ranges::find_if(inputs_.pins, [&](const RootPin& pin) {
        return compare_pin(pin.root, container_.root(), container_.tensors_sha256()) == coverage;
      });
      return found == inputs_.pins.end() ? nullptr : &*found;
    };
    if (const RootPin* pin = find(PinCoverage::everything))
      return add("root", LinkState::checked, hex + ": named by " + pin->by);
    if (const RootPin* pin = find(PinCoverage::weights)) {
      return add("root", LinkState::unknown,
                 hex + ": " + pin->by + " names " + weights + ", which " + std::string(kPinsWeightsOnly));
    }
    std::string detail =
        hex + ": " +
        (inputs_.pins.empty() ? "no manifest or signature at hand names it"
                              : inputs_.pins.front().by + " names other roots, not this one");
    // The root that convert has printed for this file, and that may have been noted somewhere.
    if (container_.footer().version == 1)
      detail += "; the root of this file of version 1, " + weights + ", " + std::string(kPinsWeightsOnly);
    add("root", LinkState::unknown, std::move(detail));
  }

  const format::ContainerReader& container_;
  const ChainInputs& inputs_;
  const Options& options_;
  base::Progress& progress_;
  const std::stop_token& stop_;
  std::vector<RecordedFile> files_;
  std::vector<ChainLink> links_;
  std::string unreadable_ = "the files of the release could not be read";  // why open_release() has no model
};

}  // namespace

char to_mark(LinkState state) {
  switch (state) {
    case LinkState::checked: return '=';
    case LinkState::differs: return '*';
    case LinkState::unknown: return '?';
  }
  return {};
}

PinCoverage compare_pin(const base::Sha256& named, const base::Sha256& root,
                        const base::Sha256& tensors_sha256) {
  if (named == root) return PinCoverage::everything;
  return named == tensors_sha256 ? PinCoverage::weights : PinCoverage::nothing;
}

std::vector<ChainLink> check_chain(const format::ContainerReader& container, const ChainInputs& inputs,
                                   const Options& options, base::Progress& progress,
                                   const std::stop_token& stop) {
  return ChainChecker(container, inputs, options, progress, stop).check();
}

}  // namespace sluice::verify
