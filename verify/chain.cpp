// Compares the links of a container's chain (verify.h) in order: release, files, file content, tensors,
// recipe, root. A link compares only with its direct neighbours: "file content" with the recorded digests,
// not with the torrent. Runs in the caller's thread; verify_release() and digest_tensors() use several.

#include "verify/verify.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "format/checkpoint_index.h"
#include "format/tensor_digests.h"

namespace sluice::verify {
namespace {

using format::Json;

constexpr const char* kSubject = "provenance";

/// A file of the release as the container records it.
struct RecordedFile {
  std::string path;
  std::optional<std::uint64_t> length_bytes;
  std::optional<base::Sha256> sha256;
  std::optional<base::Sha256> root;
};

std::string text_of(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  return value != nullptr && value->is_string() ? value->as_string(kSubject) : std::string();
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
    check_release();
    check_files();
    check_content();
    check_tensors();
    add("recipe", LinkState::unknown, recipe());
    check_root();
    return std::move(links_);
  }

 private:
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
    const auto different =
        std::ranges::find_if(pairs, [](const auto& pair) { return pair.first != pair.second; });
    if (different != pairs.end())
      return add("release", LinkState::differs, detail + ": " + inputs_.source + " has " + different->second);
    if (!pairs.empty()) return add("release", LinkState::checked, detail + ": as in " + inputs_.source);
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
    // A v1 torrent has no file digests that the container could record: then its pieces are the link.
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
    const Report report = verify_release(inputs_.folder, recorded, options_, progress_, stop_);
    for (const FileReport& file : report.files) {
      if (file.state == FileState::ok || file.state == FileState::extra) continue;
      const bool differs = file.state == FileState::damaged || file.state == FileState::missing;
      return add("file content", differs ? LinkState::differs : LinkState::unknown,
                 base::to_printable(file.path) + " in " + inputs_.folder.string() + ": " +
                     std::string(to_string(file.state)) + ", " + file.problem);
    }
    add("file content", LinkState::checked,
        base::to_counted(files_.size(), "file") + " in " + inputs_.folder.string() + " have these digests");
  }

  /// Link "tensors": the tensors in these files have the digests that the container records as its sources.
  void check_tensors() {
    if (!can_read("tensors")) return;
    try {
      const auto released = format::digest_tensors(format::open_released_model(inputs_.folder),
                                                   std::max(1u, options_.thread_count), progress_, stop_);
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

  [[nodiscard]] std::string recipe() const {
    const std::string quant = base::to_printable(text_of(container_.recipe(), "quant"));
    return (quant.empty() ? std::string("no quantization is named") : quant) +
           ": only converting again would show it";
  }

  void check_root() {
    const base::Sha256& root = container_.footer().root;
    const std::string hex = base::to_hex(root);
    for (const RootPin& pin : inputs_.pins)
      if (pin.root == root) return add("root", LinkState::checked, hex + ": named by " + pin.by);
    if (!inputs_.pins.empty()) {
      return add("root", LinkState::unknown,
                 hex + ": " + inputs_.pins.front().by + " names other roots, not this one");
    }
    add("root", LinkState::unknown, hex + ": no manifest or signature at hand names it");
  }

  const format::ContainerReader& container_;
  const ChainInputs& inputs_;
  const Options& options_;
  base::Progress& progress_;
  const std::stop_token& stop_;
  std::vector<RecordedFile> files_;
  std::vector<ChainLink> links_;
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

std::vector<ChainLink> check_chain(const format::ContainerReader& container, const ChainInputs& inputs,
                                   const Options& options, base::Progress& progress,
                                   const std::stop_token& stop) {
  return ChainChecker(container, inputs, options, progress, stop).check();
}

}  // namespace sluice::verify
