// The parameters of kernels, as hosts see them.
#pragma once

#include <cstdint>

using uint = uint32_t;

#include "../../params.h"
