#include "cli/calibration_run.h"

#include <system_error>

#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "cli/environment.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kTextBytesMax = 1u << 30;

}  // namespace

CalibrationRun::CalibrationRun(const fs::path& text_path, convert::Request& request, base::Progress& progress,
                               const Invocation& invocation)
    : container_(request.output.string() + ".calibration") {
  if (request.quant != convert::Quant::q4)
    throw base::Error(base::ErrorKind::usage, "--calibrate: only q4 can be calibrated");
  const std::string text = base::read_text_file(text_path, kTextBytesMax);
  try {
    make_container(request, progress, invocation);
    runtime::CalibrationOptions options;
    options.thread_count = request.thread_count;
    options.isa = forced_isa();
    options.stop = invocation.stop;
    calibrator_.emplace(*model_, text, options);
  } catch (...) {
    std::error_code ignored;
    fs::remove(container_, ignored);
    throw;
  }
  if (calibrator_->tokens() < calibrator_->tokens_total()) {
    invocation.console.warn(text_path.string() + ": the first " + std::to_string(calibrator_->tokens()) +
                            " of its " + std::to_string(calibrator_->tokens_total()) +
                            " tokens are used, whose states take 256 MiB");
  }
  convert::Calibration calibration;
  calibration.text_sha256 = base::to_hex(base::hash<base::Sha256>(base::as_bytes(text)));
  calibration.tokens = calibrator_->tokens();
  calibration.statistics = [this](std::uint64_t) { return calibrator_->next_layer(); };
  request.calibration = std::move(calibration);
}

void CalibrationRun::make_container(const convert::Request& request, base::Progress& progress,
                                    const Invocation& invocation) {
  convert::Request aside = request;
  aside.output = container_;
  aside.quant = convert::Quant::q8;
  static_cast<void>(convert::convert(aside, progress, invocation.stop));
  // Just written and never renamed: its digests would only prove the memory that it was made in.
  model_.emplace(runtime::Model::open(container_, {.verify = runtime::Verify::off}));
}

CalibrationRun::~CalibrationRun() {
  std::error_code ignored;
  fs::remove(container_, ignored);
}

}  // namespace sluice::cli
