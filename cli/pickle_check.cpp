// Looks for pickles that call functions when they are loaded (torch checkpoints are pickles). Sluice executes
// none; the check protects those who load the same file with other programs.

#include "cli/pickle_check.h"

#include "base/error.h"
#include "format/checkpoint_scan.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using verify::FileState;

void scan(const fs::path& file, std::vector<std::string>& found) {
  std::error_code not_there;
  // Links are not followed, because the file behind a link is not part of the release.
  if (!fs::is_regular_file(fs::symlink_status(file, not_there))) return;
  const auto pickles = format::scan_pickles(file, format::PickleSearch::whole_file);
  const std::string acts = format::to_sentence(pickles);
  const std::string unscanned = format::unscanned_sentence(pickles);
  // A pickle that was not scanned to its end may hide what it does behind that place.
  if (!acts.empty()) {
    found.push_back(file.string() + ": is no plain state dict: " + acts);
  } else if (!unscanned.empty()) {
    found.push_back(file.string() + ": cannot be scanned: " + unscanned +
                    ". Do not load it with pickle or torch.load; ask its publisher for safetensors");
  }
}

}  // namespace

std::vector<std::string> find_acting_pickles(const fs::path& path, const verify::Report& report) {
  std::vector<std::string> found;
  if (!fs::is_directory(path)) {
    scan(path, found);
    return found;
  }
  for (const verify::FileReport& file : report.files) {
    // A damaged file is reported as damaged; the calls in its bytes say nothing about the release.
    const bool whole =
        file.state == FileState::ok || file.state == FileState::unproven || file.state == FileState::extra;
    if (whole) scan(path / file.path, found);
  }
  return found;
}

void refuse_acting_pickles(const std::vector<std::string>& found) {
  if (found.empty()) return;
  std::string text = found.front();
  for (std::size_t i = 1; i < found.size(); ++i) text += "; " + found[i];
  throw base::Error(base::ErrorKind::malformed, text + "; nothing of it was executed");
}

}  // namespace sluice::cli
