#pragma once
// convert --calibrate: converts the release to a temporary q8 container beside the output, and runs that
// model on a text layer by layer while the q4 conversion proceeds. The q8 container is removed in the end; it
// is kept only when the conversion was interrupted and can be resumed.

#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "cli/commands.h"
#include "convert/convert.h"
#include "runtime/runtime.h"

namespace sluice::cli {

class CalibrationRun final {
 public:
  CalibrationRun(const std::filesystem::path& text, base::Progress& progress, const Invocation& invocation);
  CalibrationRun(const CalibrationRun&) = delete;
  CalibrationRun& operator=(const CalibrationRun&) = delete;

  /// Hex, as the recipe of the container records it.
  [[nodiscard]] std::string text_sha256() const;
  /// Converts as convert::convert, calibrated with the text. Error{usage} for another type than q4.
  [[nodiscard]] convert::Result convert(convert::Request request);

 private:
  /// Makes the q8 container that `aside` describes, and opens it.
  void begin(const convert::Request& aside);

  std::filesystem::path text_path_;
  std::string text_;
  base::Progress& progress_;
  const Invocation& invocation_;
  std::optional<runtime::Model> model_;
  std::optional<runtime::Calibrator> calibrator_;
};

/// The q8 container that a calibrated conversion to this output makes meanwhile.
[[nodiscard]] std::filesystem::path calibration_container(const std::filesystem::path& output);

/// Removes the q8 container that a killed conversion to this output has left.
void remove_calibration(const std::filesystem::path& output);

}  // namespace sluice::cli
