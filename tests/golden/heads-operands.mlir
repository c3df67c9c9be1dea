#map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>
#map1 = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d4, d3)>
#map2 = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3)>
#map3 = affine_map<(d0, d1, d2, d3) -> (d0, d2, d1, d3)>
#map4 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map5 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
module {
  func.func @kernel(%arg0: tensor<2x3x4x5xf32>, %arg1: tensor<2x3x5x6xf32>, %arg2: tensor<2x4x18xf32>, %arg3: !hal.buffer {iree.abi.output = 0 : index}) -> tensor<2x4x18xf32> {
    %0 = tensor.empty() : tensor<2x3x4x6xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1, #map2], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction"]} ins(%arg0, %arg1 : tensor<2x3x4x5xf32>, tensor<2x3x5x6xf32>) outs(%1 : tensor<2x3x4x6xf32>) {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %7 = arith.mulf %in, %in_0 : f32
      %8 = arith.addf %out, %7 : f32
      linalg.yield %8 : f32
    } -> tensor<2x3x4x6xf32>
    %3 = tensor.empty() : tensor<2x4x3x6xf32>
    %4 = linalg.generic {indexing_maps = [#map3, #map4], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%2 : tensor<2x3x4x6xf32>) outs(%3 : tensor<2x4x3x6xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<2x4x3x6xf32>
    %collapsed = tensor.collapse_shape %4 [[0], [1], [2, 3]] : tensor<2x4x3x6xf32> into tensor<2x4x18xf32>
    %5 = tensor.empty() : tensor<2x4x18xf32>
    %6 = linalg.generic {indexing_maps = [#map5, #map5, #map5], iterator_types = ["parallel", "parallel", "parallel"]} ins(%collapsed, %arg2 : tensor<2x4x18xf32>, tensor<2x4x18xf32>) outs(%5 : tensor<2x4x18xf32>) {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %7 = arith.addf %in, %in_0 : f32
      linalg.yield %7 : f32
    } -> tensor<2x4x18xf32>
    return %6 : tensor<2x4x18xf32>
  }
}
