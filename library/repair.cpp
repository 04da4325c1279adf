#include "library/repair.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "cli/environment.h"
#include "cli/fetch_observer.h"
#include "cli/progress_line.h"
#include "cli/report.h"
#include "format/container_check.h"
#include "library/model_source.h"
#include "library/source_release.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using verify::FileState;

/// Where .sluice is: beside the release's folder, or beside its only file.
fs::path output_folder(const FoundExpectations& found) {
  const fs::path folder = fs::canonical(found.folder);
  const auto& layout = found.expectations.layout;
  return layout && layout->single_file ? folder : folder.parent_path();
}

bool is_wrong(const verify::FileReport& file) {
  return file.state == FileState::damaged || file.state == FileState::missing;
}

std::vector<fetch::DamagedFile> damage_of(const verify::Report& report, const format::ReleaseLayout& layout,
                                          Console& console) {
  std::vector<fetch::DamagedFile> damage;
  for (const verify::FileReport& file : report.files) {
    if (!is_wrong(file)) continue;
    if (std::ranges::find(layout.files, file.path, &format::ReleaseFile::path) == layout.files.end()) {
      console.warn(file.path + ": is not in the torrent, and cannot be repaired by it");
      continue;
    }
    fetch::DamagedFile& damaged = damage.emplace_back();
    damaged.path = file.path;
    for (const verify::DamagedRange& range : file.damaged) damaged.ranges.push_back(range.range);
  }
  return damage;
}

/// What convert recorded when it made the container: the origin of a release that is as released.
void record_proven_origin(convert::Request& request, Console& console, const std::stop_token& stop) {
  const auto found = find_expectations(request.input, {}, console);
  if (found.empty()) return;
  verify::Options options;
  options.thread_count = request.thread_count;
  ProgressLine progress(console);
  const auto report = prove(found, options, progress, stop);
  if (report.ok) {
    record_origin(found, request);
  } else {
    console.warn(request.input.string() + ": " + report_summary(report));
  }
}

fs::path choose_source(const fs::path& container, const fs::path& named,
                       const format::ContainerCheck& examined, Console& console) {
  if (!named.empty()) return named;
  const auto found = examined.reader ? find_source_release(container, examined.reader->provenance())
                                     : guess_source_release(container, console);
  if (found) return *found;
  throw base::Error(base::ErrorKind::usage,
                    container.string() + ": a repair needs the release that it was made of (--release)");
}

}  // namespace

bool can_repair(const verify::Report& report) { return std::ranges::any_of(report.files, is_wrong); }

void fetch_torrent(FoundExpectations& found, const NetworkOptions& network, Console& console,
                   const std::stop_token& stop) {
  const auto& manifest = found.expectations.manifest;
  fetch::FetchRequest request;
  apply(network, request);
  if (manifest) request.source = manifest->magnet();
  if (request.source.empty())
    throw base::Error(base::ErrorKind::usage,
                      found.folder.string() + ": a repair needs the release's .torrent (--torrent)");
  request.output_folder = output_folder(found);
  request.worker_command = worker_command();
  request.dry_run = true;
  FetchObserver observer(console);
  auto fetched = fetch::fetch(request, observer, stop);
  console.clear_status();
  found.expectations.layout = std::move(fetched.layout);
  found.torrent = fetched.torrent;
}

fetch::RepairResult repair_release(const FoundExpectations& found, const verify::Report& report,
                                   const NetworkOptions& network, Console& console,
                                   const std::stop_token& stop) {
  fetch::RepairRequest request;
  apply(network, request.fetch);
  request.fetch.source = found.torrent;
  request.fetch.output_folder = output_folder(found);
  request.fetch.worker_command = worker_command();
  request.folder = fs::canonical(found.folder);
  request.damage = damage_of(report, *found.expectations.layout, console);
  FetchObserver observer(console);
  const fetch::RepairResult result = fetch::repair(request, observer, stop);
  console.clear_status();
  return result;
}

convert::RepairResult repair_container(const fs::path& container, const verify::Report& report,
                                       const fs::path& source, unsigned thread_count, Console& console,
                                       const std::stop_token& stop) {
  convert::RepairRequest request;
  request.container = container;
  for (const verify::DamagedRange& range : report.files.at(0).damaged) request.damage.push_back(range.range);
  const auto examined = format::check_container(container);
  request.conversion.input = choose_source(container, source, examined, console);
  request.conversion.thread_count = thread_count;
  console.note("out of " + request.conversion.input.string());
  // The directory holds where the container came from; all else is made without it.
  if (!examined.reader) record_proven_origin(request.conversion, console, stop);
  ProgressLine progress(console);
  const auto result = convert::repair(request, progress, stop);
  console.clear_status();
  return result;
}

void clean_up_repair(const FoundExpectations& found) {
  if (found.expectations.layout) fetch::discard_repair(output_folder(found), *found.expectations.layout);
}

}  // namespace sluice::cli
