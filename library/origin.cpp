// The only place that writes an origin into a conversion. It verifies the release itself instead of taking a
// report, so that no caller can record an origin that was not verified.

#include "library/origin.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "format/container_format.h"
#include "format/container_reader.h"
#include "library/verification.h"

namespace sluice::library {
namespace {

/// The files of the release with the digests that either reference knows.
std::vector<convert::SourceFile> list_files(const verify::Expectations& expected) {
  // The map sorts by path, so that equal releases give equal records, and with them equal containers.
  std::map<std::string, convert::SourceFile> files;
  if (expected.layout) {
    for (const auto& file : expected.layout->files) {
      if (file.pad) continue;
      files[file.path] = {file.path, file.length_bytes, "", file.root ? base::to_hex(*file.root) : ""};
    }
  }
  if (expected.manifest) {
    // Torrent and manifest were compared when the release was verified, so where both know a digest it is the
    // same.
    for (const auto& file : expected.manifest->files) {
      auto& entry = files[file.path];
      entry.path = file.path;
      if (file.length_bytes) entry.length_bytes = *file.length_bytes;
      if (file.sha256) entry.sha256 = base::to_hex(*file.sha256);
      if (file.root) entry.pieces_root = base::to_hex(*file.root);
    }
  }
  std::vector<convert::SourceFile> list;
  for (auto& [path, file] : files) list.push_back(std::move(file));
  return list;
}

/// A file that is missing is no damage here: the checkpoint was found to be complete before, and people
/// download parts of a release, such as one of its two checkpoints.
bool is_damage(verify::FileState state) {
  using verify::FileState;
  return state == FileState::damaged || state == FileState::unreadable || state == FileState::changed;
}

/// The files whose size alone proves damage, without hashing; ok when sizes prove nothing.
verify::Report compare_sizes(const References& references) {
  verify::Report report;
  report.ok = true;
  for (const convert::SourceFile& file : list_files(references.expected)) {
    if (!file.length_bytes) continue;
    std::error_code unreadable;
    const auto path = references.folder / file.path;
    // Links, folders and absent files are for the verification itself, which has words for each.
    if (std::filesystem::symlink_status(path, unreadable).type() != std::filesystem::file_type::regular)
      continue;
    const std::uint64_t found = std::filesystem::file_size(path, unreadable);
    if (unreadable || found == *file.length_bytes) continue;
    verify::FileReport damage;
    damage.path = file.path;
    damage.state = verify::FileState::damaged;
    damage.problem =
        "has " + std::to_string(found) + " bytes, expected " + std::to_string(*file.length_bytes);
    report.ok = false;
    report.files.push_back(std::move(damage));
  }
  return report;
}

/// "; consolidated.00.pth: damaged, has 5 bytes, expected 9; ...": the first few damaged files.
std::string name_damage(const verify::Report& report) {
  constexpr std::size_t kFilesNamed = 3;
  std::string text;
  std::size_t count = 0;
  for (const verify::FileReport& file : report.files) {
    if (!is_damage(file.state) || ++count > kFilesNamed) continue;
    text += "; " + base::to_printable(file.path) + ": " + std::string(verify::to_string(file.state));
    if (!file.problem.empty()) text += ", " + base::to_printable(file.problem);
  }
  if (count > kFilesNamed) text += "; and " + std::to_string(count - kFilesNamed) + " more files";
  return text;
}

void handle_failure(const verify::Report& report, OriginPolicy policy, convert::Request& request,
                    const Context& context) {
  const std::string problem = request.input.string() + ": " + summarize(report) + name_damage(report);
  const bool damaged = std::ranges::any_of(report.files, is_damage, &verify::FileReport::state);
  // References that contradict no file prove nothing against the release; only its origin is not proven.
  if (!damaged) return context.observer.on_warning(problem + "; it is converted without naming its origin");
  if (policy == OriginPolicy::must_match) {
    throw base::Error(base::ErrorKind::verification,
                      problem +
                          "; sluice verify shows where, sluice verify --repair mends it, and sluice "
                          "convert --allow-damaged converts it as it is");
  }
  for (const verify::FileReport& file : report.files) {
    if (is_damage(file.state))
      request.damage.push_back({file.path, std::string(verify::to_string(file.state)), file.problem});
  }
  context.observer.on_warning(problem + "; it is converted without naming its origin, as asked for");
}

}  // namespace

std::string describe_damaged_sources(const format::Json& provenance) {
  const format::Json* list = provenance.find(format::kDamagedSourcesKey);
  if (list == nullptr) return {};
  std::string text = "was made of a release that its references prove to be damaged (--allow-damaged)";
  // The provenance comes from the container, which anyone can have written.
  if (!list->is_array()) return text;
  std::string separator = ": ";
  for (const format::Json& file : list->as_array(format::kDamagedSourcesKey)) {
    const format::Json* path = file.is_object() ? file.find("path") : nullptr;
    if (path == nullptr || !path->is_string()) continue;
    text += separator + base::to_printable(path->as_string("path"));
    separator = ", ";
  }
  return text;
}

std::string damaged_sources_of(const std::filesystem::path& container) {
  try {
    return describe_damaged_sources(format::ContainerReader::open(container).provenance());
  } catch (const base::Error&) {
    return {};  // whoever uses the container says what is wrong with it
  }
}

void record_origin(const References& references, OriginPolicy policy, convert::Request& request,
                   const Context& context) {
  if (references.empty()) {
    context.observer.on_warning(request.input.string() +
                                ": no torrent, manifest or checksums found, so it cannot be proven");
    return;
  }
  const auto sizes = compare_sizes(references);
  if (!sizes.ok) return handle_failure(sizes, policy, request, context);
  verify::Options options;
  options.thread_count = request.thread_count;
  // The release is verified here and now, because a report that a caller passed in could be about another
  // state of the files.
  const auto report = verify_release(references, options, context);
  if (!report.ok) return handle_failure(report, policy, request, context);
  // Only a verified release reaches this point.
  request.release_name = references.release_name();
  request.infohash_v1 = references.infohash_v1();
  request.infohash_v2 = references.infohash_v2();
  request.licence = references.licence();
  request.files = list_files(references.expected);
}

}  // namespace sluice::library
