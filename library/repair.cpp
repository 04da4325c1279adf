// Repairs start from a report: nothing that the report does not call damaged is written. A release is
// repaired by its torrent, since only its hashes can prove what peers send; a container by converting the
// damaged tensors again.

#include "library/repair.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "convert/convert.h"
#include "format/container_check.h"
#include "library/origin.h"
#include "library/source_release.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;
using verify::FileState;

/// The folder that holds .sluice: it lies beside the release's folder, or beside the file of a single-file
/// release.
fs::path output_folder(const References& references) {
  // canonical() makes "." and links into a path that has a parent.
  const fs::path folder = fs::canonical(references.folder);
  const auto& layout = references.expected.layout;
  return layout && layout->single_file ? folder : folder.parent_path();
}

bool is_wrong(const verify::FileReport& file) {
  return file.state == FileState::damaged || file.state == FileState::missing;
}

std::vector<fetch::DamagedFile> list_damage(const verify::Report& report, const format::ReleaseLayout& layout,
                                            Observer& observer) {
  std::vector<fetch::DamagedFile> damage;
  for (const verify::FileReport& file : report.files) {
    if (!is_wrong(file)) continue;
    if (std::ranges::find(layout.files, file.path, &format::ReleaseFile::path) == layout.files.end()) {
      // A file that only the manifest lists has no piece hashes, so nothing could verify what peers would
      // send.
      observer.on_warning(file.path + ": is not in the torrent, and cannot be repaired by it");
      continue;
    }
    fetch::DamagedFile& damaged = damage.emplace_back();
    damaged.path = file.path;
    for (const verify::DamagedRange& range : file.damaged) damaged.ranges.push_back(range.range);
  }
  return damage;
}

fs::path choose_release(const fs::path& container, const fs::path& named,
                        const format::ContainerCheck& examined, const Context& context) {
  if (!named.empty()) return named;
  const auto found = examined.reader
                         ? find_source_release(container, examined.reader->provenance(), context.folders)
                         : guess_source_release(container, context);
  if (found) return *found;
  throw base::Error(base::ErrorKind::usage,
                    container.string() + ": a repair needs the release that it was made of (--release)");
}

}  // namespace

bool can_repair(const verify::Report& report) { return std::ranges::any_of(report.files, is_wrong); }

void fetch_torrent(References& references, const fetch::FetchRequest& network, const Context& context) {
  const auto& manifest = references.expected.manifest;
  fetch::FetchRequest request = network;
  if (manifest) request.source = manifest->magnet();
  if (request.source.empty())
    throw base::Error(base::ErrorKind::usage,
                      references.folder.string() + ": a repair needs the release's .torrent (--torrent)");
  request.output_folder = output_folder(references);
  // Only the metadata is fetched; the info-hash of the manifest proves it.
  request.dry_run = true;
  auto fetched = fetch::fetch(request, context.observer.fetch_progress(), context.stop);
  context.observer.on_work_end();
  references.expected.layout = std::move(fetched.layout);
  references.torrent = fetched.torrent;
}

fetch::RepairResult repair_files(const References& references, const verify::Report& report,
                                 const fetch::FetchRequest& network, const Context& context) {
  fetch::RepairRequest request;
  request.fetch = network;
  request.fetch.source = references.torrent;
  request.fetch.output_folder = output_folder(references);
  request.folder = fs::canonical(references.folder);
  request.damage = list_damage(report, *references.expected.layout, context.observer);
  const auto result = fetch::repair(request, context.observer.fetch_progress(), context.stop);
  context.observer.on_work_end();
  return result;
}

std::uint64_t repair_container(const fs::path& container, const verify::Report& report,
                               const fs::path& release, unsigned thread_count, const Context& context) {
  convert::RepairRequest request;
  request.container = container;
  // The report of a container has one file.
  for (const verify::DamagedRange& range : report.files.at(0).damaged) request.damage.push_back(range.range);
  // The container cannot be opened in the usual way, because the damage may lie in its directory.
  const auto examined = format::check_container(container);
  request.conversion.input = choose_release(container, release, examined, context);
  request.conversion.thread_count = thread_count;
  context.observer.on_note("out of " + request.conversion.input.string());
  // The directory records the origin; only where it is damaged does the origin have to be found again.
  if (!examined.reader) {
    const auto references = find_references(request.conversion.input, {}, context);
    record_origin(references, OriginPolicy::allow_damaged, request.conversion, context);
  }
  const auto result = convert::repair(request, context.observer.progress(), context.stop);
  context.observer.on_work_end();
  return result.written_bytes;
}

void discard_repair(const References& references) {
  const auto& layout = references.expected.layout;
  if (layout) fetch::discard_repair(output_folder(references), *layout);
}

}  // namespace sluice::library
