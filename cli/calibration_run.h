#pragma once
// convert --calibrate: the release as a q8 container beside the output, run on a text layer by layer while
// the conversion goes on. The container is kept when the conversion can be resumed, and removed in the end.

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

  /// convert::convert() with the text.
  [[nodiscard]] convert::Result convert(convert::Request request);

 private:
  /// `aside`: of the q8 container.
  void begin(const convert::Request& aside);

  std::filesystem::path text_path_;
  std::string text_;
  base::Progress& progress_;
  const Invocation& invocation_;
  std::optional<runtime::Model> model_;
  std::optional<runtime::Calibrator> calibrator_;
};

/// What a calibrated conversion to this output has left when it was killed.
void remove_calibration(const std::filesystem::path& output);

}  // namespace sluice::cli
